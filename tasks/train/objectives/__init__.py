"""Objectives: what a network is trained to do, by name.

    objective = OBJECTIVES["supervised"](options, num_classes=10)
    loss, measurements = objective.loss(network, {"train": batch})

The trainer knows no loss. It draws a batch from each data set that the objective names, and follows
the gradient of the loss that the objective returns.

base.py        the interface
supervised.py  cross-entropy against the classes of the images
"""

from collections.abc import Callable, Mapping

from tasks.train.job import ObjectiveName
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.objectives.supervised import Supervised
from tasks.train.options import TrainOptions

OBJECTIVES: Mapping[ObjectiveName, Callable[[TrainOptions, int], Objective]] = {
    "supervised": Supervised,
}

__all__ = ["OBJECTIVES", "Objective", "Supervised", "TensorBatch"]
