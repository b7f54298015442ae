"""Lessons: an output of `gather`, whose images have weighted classes.

Classes are matched by name, because the list of the lessons may be ordered differently.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ProtegeError
from tasks import tables
from tasks.contract import Output, part_name, part_number, read_pieces
from tasks.shard import IMAGE_BYTES
from tasks.train.data.samples import Part, Targets


class LessonSamples:
    """The images of lessons, each with the classes that it teaches."""

    def __init__(self, data: Output, classes: Sequence[str]) -> None:
        self._data, self.uri = data, data.uri
        parts = [part for part in data.body["parts"] if part["name"].startswith("part-")]
        self._part_numbers = [part_number(part["name"]) for part in parts]
        self.part_rows = [part["kept"] for part in parts]
        self.part_bytes = [int(part["facts"][IMAGE_BYTES]) for part in parts]
        class_indices = {name: index for index, name in enumerate(classes)}
        unknown = [name for name in data.classes if name not in class_indices]
        if unknown:
            raise ProtegeError(f"{data.uri}: {unknown[0]!r} is none of the classes")
        self._class_indices_L = np.array([class_indices[name] for name in data.classes], np.int64)

    def read_part(self, part: int) -> Part:
        """The samples of a part."""
        name, images, others = part_name(self._part_numbers[part]), [], []
        for piece in read_pieces(self._data.store, name, tables.LESSONS):
            images += piece["image"].to_pylist()
            others.append(piece.select(["image_id", "labels", "weights"]))
        table = pa.concat_tables(others).combine_chunks()
        labels_P = pc.list_flatten(table["labels"]).to_numpy()
        targets = Targets(
            pc.list_parent_indices(table["labels"]).to_numpy().astype(np.int64),
            self._class_indices_L[labels_P],
            pc.list_flatten(table["weights"]).to_numpy(),
        )
        return Part(images, targets, table["image_id"].to_pylist())
