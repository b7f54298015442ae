"""Labelled images: an output of `shard` whose images all have a class."""

from collections.abc import Sequence

import numpy as np

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.shard import read_images
from tasks.train.data.samples import Part, Targets, list_parts


class LabelledSamples:
    """The images of shards, each with its class and weight 1."""

    def __init__(self, data: Output, classes: Sequence[str]) -> None:
        self._data, self.uri = data, data.uri
        self._class_indices = {name: index for index, name in enumerate(classes)}
        self._part_numbers, self.part_rows = list_parts(data)

    def read_part(self, part: int) -> Part:
        """The samples of a part. Raises ProtegeError for an image without a known class."""
        table = read_images(self._data, self._part_numbers[part], ["label"])
        classes = [self._class_index(label) for label in table["label"].to_pylist()]
        targets = Targets(
            np.arange(len(table)), np.array(classes, np.int64), np.ones(len(table), np.float32)
        )
        return Part(table["image"].to_pylist(), targets)

    def _class_index(self, label: str | None) -> int:
        if label is None:
            raise ProtegeError(
                f"{self.uri} has an image without a class: put every image into a folder named "
                "after its class, or give a list with a column 'label'"
            )
        if label not in self._class_indices:
            raise ProtegeError(f"{self.uri}: {label!r} is none of the classes")
        return self._class_indices[label]
