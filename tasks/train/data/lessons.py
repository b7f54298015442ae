"""Lessons: an output of `gather`, whose images have weighted classes.

Classes are matched by name, because the list of the lessons may be ordered differently.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from infra.errors import ProtegeError
from tasks import tables
from tasks.contract import Output, part_name, read_part
from tasks.train.data.samples import Part, Targets, list_parts


class LessonSamples:
    """The images of lessons, each with the classes that it teaches."""

    def __init__(self, data: Output, classes: Sequence[str]) -> None:
        self._data, self.uri = data, data.uri
        self._part_numbers, self.part_rows = list_parts(data)
        class_indices = {name: index for index, name in enumerate(classes)}
        unknown = [name for name in data.classes if name not in class_indices]
        if unknown:
            raise ProtegeError(f"{data.uri}: {unknown[0]!r} is none of the classes")
        self._class_indices_L = np.array([class_indices[name] for name in data.classes], np.int64)

    def read_part(self, part: int) -> Part:
        """The samples of a part."""
        name = part_name(self._part_numbers[part])
        table = read_part(self._data.store, name, tables.LESSONS).combine_chunks()
        labels_P = pc.list_flatten(table["labels"]).to_numpy()
        targets = Targets(
            pc.list_parent_indices(table["labels"]).to_numpy().astype(np.int64),
            self._class_indices_L[labels_P],
            pc.list_flatten(table["weights"]).to_numpy(),
        )
        return Part(table["image"].to_pylist(), targets)
