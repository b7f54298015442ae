"""Distillation: cross-entropy against what a teacher says of the very pixels that are learned from.

"Big self-supervised models" (SimCLRv2, Chen et al. 2020), equations 2 and 3:
(1 - alpha) * cross-entropy of the classes + alpha * cross-entropy of the teacher.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.losses import distillation, soft_cross_entropy
from models.pixels import standardise
from tasks.images import Inputs
from tasks.train.augmentation import mix_batch
from tasks.train.job import TRAIN_SET
from tasks.train.objective_options import DistillationOptions
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.objectives.supervised import accuracy
from tasks.train.options import TrainOptions


class Distillation(Objective):
    """Learn from a teacher, whose classes are those of the training, in the same order.

    `teacher_inputs` say how the teacher's pixels are standardised.
    """

    sources: Mapping[str, float] = {TRAIN_SET: 1.0}

    def __init__(
        self,
        options: TrainOptions,
        num_classes: int,
        distillation_options: DistillationOptions,
        teacher: nn.Module,
        teacher_inputs: Inputs,
    ) -> None:
        self._options, self._num_classes = options, num_classes
        self._distillation = distillation_options
        self._teacher, self._teacher_inputs = teacher.eval().requires_grad_(False), teacher_inputs

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean loss over the batch; measures its two parts, and how often both agree."""
        options, chosen, batch = self._options, self._distillation, batches[TRAIN_SET]
        images_BCHW, targets_BC = batch.images_BCHW, batch.dense_targets(self._num_classes)
        images_BCHW, targets_BC = mix_batch(images_BCHW, targets_BC, batch.augment)
        logits_BC = network(standardise(images_BCHW, options.inputs.mean, options.inputs.std))
        teacher_BC = self._ask_teacher(images_BCHW)
        taught = distillation(logits_BC, teacher_BC, chosen.temperature)
        if chosen.tau_squared:
            taught = taught * chosen.temperature**2
        labelled = soft_cross_entropy(logits_BC, targets_BC, options.label_smoothing)
        loss = (1 - chosen.alpha) * labelled + chosen.alpha * taught
        return loss, {
            "distillation": taught.detach(),
            "cross_entropy": labelled.detach(),
            "agreement": accuracy(logits_BC, teacher_BC),
        }

    @torch.no_grad()
    def _ask_teacher(self, images_BCHW: Tensor) -> Tensor:
        inputs = self._teacher_inputs
        logits_BC: Tensor = self._teacher(standardise(images_BCHW, inputs.mean, inputs.std))
        return logits_BC
