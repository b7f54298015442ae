"""Objective: the interface between the trainer and a loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class TensorBatch:
    """A batch on the device of the network.

    `images_BCHW` are augmented pixels in [0, 1]; the targets are P pairs as in data/samples.py.
    """

    images_BCHW: Tensor
    rows_P: Tensor
    classes_P: Tensor
    weights_P: Tensor

    def dense_targets(self, num_classes: int) -> Tensor:
        """The targets as distributions over classes, shape (B, C)."""
        targets_BC = self.weights_P.new_zeros(len(self.images_BCHW), num_classes)
        targets_BC[self.rows_P, self.classes_P] = self.weights_P
        return targets_BC


class Objective(Protocol):
    """A loss, and the data that it is computed from.

    `sources` are the data sets that a step draws from, by role, and the share of the batch that
    each of them gives.
    """

    sources: Mapping[str, float]

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a step, and its named measurements, which go into the history.

        `batches` are by role; `network` takes standardised images. Every step has the same names.
        """
