"""Samples: what every kind of data set offers to the training.

A data set is a list of parts. A part is read whole and holds encoded images and their targets.
Targets are (row, class, weight) pairs, so an image may have no class, one class or several, and
60,000 classes cost no more than ten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tasks.images import Unusable


@dataclass(frozen=True)
class Targets:
    """P pairs, sorted by row: image rows_P[i] has class classes_P[i] with weight weights_P[i].

    No pair occurs twice. The weights of a labelled image sum to 1.
    """

    rows_P: npt.NDArray[np.int64]
    classes_P: npt.NDArray[np.int64]
    weights_P: npt.NDArray[np.float32]

    def take(self, row: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The classes of one image and their weights."""
        first, last = np.searchsorted(self.rows_P, [row, row + 1])
        return self.classes_P[first:last], self.weights_P[first:last]

    @staticmethod
    def stack(
        samples: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]],
    ) -> "Targets":
        """The targets of a batch, from the classes and weights of each of its images."""
        return Targets(
            np.repeat(np.arange(len(samples)), [len(classes) for classes, _ in samples]),
            np.concatenate([classes for classes, _ in samples]),
            np.concatenate([weights for _, weights in samples]),
        )

    @staticmethod
    def join(parts: Sequence["Targets"], part_rows: Sequence[int]) -> "Targets":
        """The targets of several parts, whose images are counted on from part to part."""
        firsts = np.cumsum([0, *part_rows[:-1]])
        return Targets(
            np.concatenate([part.rows_P + first for part, first in zip(parts, firsts)]),
            np.concatenate([part.classes_P for part in parts]),
            np.concatenate([part.weights_P for part in parts]),
        )


def cannot_learn_from(uri: str, name: str, problem: Unusable) -> str:
    """What to say of an image of a training set that cannot be used."""
    return (
        f"{uri}: {name} cannot be decoded for the training ({problem}). Shard its source with "
        "verify=decode, which rejects such images"
    )


@dataclass(frozen=True)
class Part:
    """The samples of one part: encoded images, and targets whose rows count them from 0.

    `image_ids` name them in messages; empty where they have none.
    """

    images: Sequence[bytes]
    targets: Targets
    image_ids: Sequence[int] = ()


class Samples(Protocol):
    """A data set."""

    @property
    def uri(self) -> str:
        """Where it lies, for messages."""

    @property
    def part_rows(self) -> Sequence[int]:
        """The number of samples of each part."""

    @property
    def part_bytes(self) -> Sequence[int]:
        """The bytes of the encoded images of each part."""

    def read_part(self, part: int) -> Part:
        """The samples of a part, an index into `part_rows`. Raises ProtegeError."""
