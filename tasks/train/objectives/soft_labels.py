"""Soft labels: cross-entropy against given distributions over classes, with mixup.

The weights of an image's classes are those that its lesson has, made to sum to 1. They are not
smoothed: a teacher has said how unsure it is ("Self-training with noisy student", Xie et al. 2020,
main.py of google-research/noisystudent).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from models.losses import normalise_targets, soft_cross_entropy
from models.pixels import standardise
from tasks.train.augmentation import mix_batch
from tasks.train.job import TRAIN_SET
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.objectives.supervised import accuracy
from tasks.train.options import TrainOptions


class SoftLabels(Objective):
    """Learn the distributions of one data set."""

    sources: Mapping[str, float] = {TRAIN_SET: 1.0}

    def __init__(self, options: TrainOptions, num_classes: int) -> None:
        self._options, self._num_classes = options, num_classes

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean cross-entropy over the batch; measures it and the agreement on the best class."""
        options, batch = self._options, batches[TRAIN_SET]
        images_BCHW = batch.images_BCHW
        targets_BC = normalise_targets(batch.dense_targets(self._num_classes))
        images_BCHW, targets_BC = mix_batch(images_BCHW, targets_BC, batch.augment)
        logits_BC = network(standardise(images_BCHW, options.inputs.mean, options.inputs.std))
        loss = soft_cross_entropy(logits_BC, targets_BC, label_smoothing=0)
        return loss, {"cross_entropy": loss.detach(), "agreement": accuracy(logits_BC, targets_BC)}
