"""Objective: the interface between the trainer and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from models.network import Network
from tasks.train.augment_options import Augment


@dataclass(frozen=True)
class TensorBatch:
    """A batch on the device of the network.

    `images_BCHW` are augmented pixels in [0, 1], which the objective mixes as `augment` says; the
    targets are P pairs as in data/samples.py. With several views of each image, all first views
    come first, and rows count only those.
    """

    images_BCHW: Tensor
    rows_P: Tensor
    classes_P: Tensor
    weights_P: Tensor
    augment: Augment

    def dense_targets(self, num_classes: int) -> Tensor:
        """The targets as weights of classes, shape (B, C)."""
        targets_BC = self.weights_P.new_zeros(len(self.images_BCHW), num_classes)
        targets_BC[self.rows_P, self.classes_P] = self.weights_P
        return targets_BC


class Objective(ABC):
    """A loss, and the data that it is computed from.

    `sources` are the data sets that a step draws from, by role, and how many images it takes of
    each for one image of the batch size; `num_views` is how often each image is cropped and
    augmented.
    """

    sources: Mapping[str, float]
    num_views: int = 1

    def module(self, network: Network) -> nn.Module:
        """What is trained: the network, or one that holds it and has layers beside it.

        These come from torch's global generator.
        """
        return network

    @abstractmethod
    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a step, and its named measurements, which go into the history.

        `batches` are by role; `network` is what `module` has made, and takes standardised images.
        Every step has the same names.
        """
