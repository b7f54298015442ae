"""Stochastic gradient descent with momentum, classical or Nesterov's."""

import torch

from models.optim.base import OptimizerSettings, ParameterGroups


def make_sgd(settings: OptimizerSettings, groups: ParameterGroups) -> torch.optim.Optimizer:
    """SGD on groups that say their own weight decay; fused kernels update the parameters."""
    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        # torch refuses Nesterov's variant where there is no momentum.
        nesterov=settings.nesterov and settings.momentum > 0,
        fused=True,
    )
