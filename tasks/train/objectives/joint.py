"""Joint: labelled and pseudo-labelled images in every step, and in every virtual rank.

"Self-training with noisy student" (Xie et al. 2020, section 2; main.py of
google-research/noisystudent): loss = labelled + ratio * pseudo-labelled, each a mean. Both go
through the network as one batch, so that its norms see both.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.losses import normalise_targets, soft_cross_entropy
from models.pixels import standardise
from tasks.train.augmentation import mix_batch
from tasks.train.job import TRAIN_SET
from tasks.train.objective_options import UNLABELLED, JointOptions
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.objectives.supervised import accuracy
from tasks.train.options import TrainOptions


class Joint(Objective):
    """Learn two data sets at once; the batch size is that of the labelled one."""

    def __init__(
        self, options: TrainOptions, num_classes: int, joint_options: JointOptions
    ) -> None:
        self._options, self._num_classes, self._joint = options, num_classes, joint_options
        self.sources = {TRAIN_SET: 1.0, UNLABELLED: joint_options.ratio}

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The sum of both; measures each, and the accuracy on the labelled images."""
        options, joint = self._options, self._joint
        images_BCHW, targets_BC = self._mixed(batches[TRAIN_SET])
        pseudo_images_BCHW, pseudo_targets_BC = self._mixed(batches[UNLABELLED])
        together_BCHW = torch.cat([images_BCHW, pseudo_images_BCHW])
        logits_BC = network(standardise(together_BCHW, options.inputs.mean, options.inputs.std))
        logits_BC, pseudo_logits_BC = logits_BC.tensor_split([len(images_BCHW)])
        labelled = soft_cross_entropy(logits_BC, targets_BC, options.label_smoothing)
        smoothing = options.label_smoothing if joint.smooth_pseudo_labels else 0
        pseudo = soft_cross_entropy(pseudo_logits_BC, pseudo_targets_BC, smoothing)
        return labelled + joint.ratio * pseudo, {
            "cross_entropy": labelled.detach(),
            "pseudo_cross_entropy": pseudo.detach(),
            "accuracy": accuracy(logits_BC, targets_BC),
        }

    def _mixed(self, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """Images and targets of one kind, mixed among themselves where the options say so."""
        images_BCHW = batch.images_BCHW
        targets_BC = normalise_targets(batch.dense_targets(self._num_classes))
        return mix_batch(images_BCHW, targets_BC, batch.augment)
