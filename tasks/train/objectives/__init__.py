"""Objectives: what a network is trained to do, by name.

    objective = make_objective(job, device)
    loss, measurements = objective.loss(objective.module(network), {"train": batch})

The trainer knows no loss. It draws a batch from each data set that the objective names, and follows
the gradient of the loss that the objective returns. Its options are in objective_options.py.

base.py          the interface
supervised.py    cross-entropy against the classes of the images
soft_labels.py   cross-entropy against given distributions
distillation.py  cross-entropy against a teacher
contrastive.py   two views of an image against all other images
joint.py         labelled and pseudo-labelled images together
"""

from collections.abc import Callable, Mapping

import torch

from models.pixels import channels_last
from tasks.inference.weights import load_network
from tasks.train.job import TrainJob
from tasks.train.objective_options import (
    TEACHER,
    ContrastiveOptions,
    DistillationOptions,
    JointOptions,
)
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.objectives.contrastive import Contrastive
from tasks.train.objectives.distillation import Distillation
from tasks.train.objectives.joint import Joint
from tasks.train.objectives.soft_labels import SoftLabels
from tasks.train.objectives.supervised import Supervised

__all__ = [
    "OBJECTIVES",
    "Contrastive",
    "Distillation",
    "Joint",
    "Objective",
    "SoftLabels",
    "Supervised",
    "TensorBatch",
    "make_objective",
]


def _supervised(job: TrainJob, _device: torch.device) -> Objective:
    return Supervised(job.options, len(job.classes))


def _soft_labels(job: TrainJob, _device: torch.device) -> Objective:
    return SoftLabels(job.options, len(job.classes))


def _distillation(job: TrainJob, device: torch.device) -> Objective:
    options = DistillationOptions.model_validate(job.objective_options)
    teacher, description = load_network(job.models[TEACHER])
    labels = [description.classes.index(name) for name in job.classes]
    teacher = channels_last(teacher.with_classes(labels).to(device))
    return Distillation(job.options, len(job.classes), options, teacher, description.inputs)


def _contrastive(job: TrainJob, _device: torch.device) -> Objective:
    return Contrastive(job.options, ContrastiveOptions.model_validate(job.objective_options))


def _joint(job: TrainJob, _device: torch.device) -> Objective:
    options = JointOptions.model_validate(job.objective_options)
    return Joint(job.options, len(job.classes), options)


OBJECTIVES: Mapping[str, Callable[[TrainJob, torch.device], Objective]] = {
    "supervised": _supervised,
    "soft_labels": _soft_labels,
    "distillation": _distillation,
    "contrastive": _contrastive,
    "joint": _joint,
}


def make_objective(job: TrainJob, device: torch.device) -> Objective:
    """The objective of a job, with its models on this device."""
    return OBJECTIVES[job.objective](job, device)
