"""Stochastic gradient descent with momentum, classical or Nesterov's.

The update is torch's. Its class `torch.optim.SGD` is not used: it loads torch's compiler when it is
made, which takes 1.6 s of every training process and compiles nothing.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.sgd import sgd

from models.optim.base import OptimizerSettings, ParameterGroups


class Sgd:
    """SGD on groups that say their own weight decay; fused kernels update the parameters."""

    def __init__(self, settings: OptimizerSettings, groups: ParameterGroups) -> None:
        self.param_groups = [{**group, "lr": settings.learning_rate} for group in groups]
        self._settings = settings
        # A velocity of zeros gives the same first step as none.
        self._velocities = [
            [torch.zeros_like(parameter) for parameter in group["params"]] for group in groups
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        momentum = self._settings.momentum
        for group, velocities in zip(self.param_groups, self._velocities, strict=True):
            rows = [
                (parameter, parameter.grad, velocity)
                for parameter, velocity in zip(group["params"], velocities, strict=True)
                if parameter.grad is not None
            ]
            sgd(
                [parameter for parameter, _, _ in rows],
                [gradient for _, gradient, _ in rows],
                [velocity for _, _, velocity in rows],
                fused=True,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                momentum=momentum,
                dampening=0.0,
                # Without momentum, Nesterov's variant is plain descent.
                nesterov=self._settings.nesterov and momentum > 0,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the velocities. Learning rates are functions of the step."""
        return {"velocities": self._velocities}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with these velocities. Raises ValueError when they are those of another network."""
        for own, saved in zip(self._velocities, state["velocities"], strict=True):
            for velocity, values in zip(own, saved, strict=True):
                velocity.copy_(values)
