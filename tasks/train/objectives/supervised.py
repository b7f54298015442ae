"""Supervised: cross-entropy against the classes of the images, with label smoothing and mixing."""

from collections.abc import Mapping

from torch import Tensor, nn

from models.losses import soft_cross_entropy
from models.pixels import standardise
from tasks.train.augmentation import mix_batch
from tasks.train.job import TRAIN_SET
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.options import TrainOptions


class Supervised(Objective):
    """Learn the classes of one data set."""

    sources: Mapping[str, float] = {TRAIN_SET: 1.0}

    def __init__(self, options: TrainOptions, num_classes: int) -> None:
        self._options, self._num_classes = options, num_classes

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean cross-entropy over the batch; measures it and the training accuracy."""
        options, batch = self._options, batches[TRAIN_SET]
        images_BCHW, targets_BC = batch.images_BCHW, batch.dense_targets(self._num_classes)
        images_BCHW, targets_BC = mix_batch(images_BCHW, targets_BC, batch.augment)
        logits_BC = network(standardise(images_BCHW, options.inputs.mean, options.inputs.std))
        loss = soft_cross_entropy(logits_BC, targets_BC, options.label_smoothing)
        return loss, {"cross_entropy": loss.detach(), "accuracy": accuracy(logits_BC, targets_BC)}


def accuracy(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """The share of images whose heaviest class, after mixing, has the highest logit."""
    return (logits_BC.argmax(dim=1) == targets_BC.argmax(dim=1)).float().mean()
