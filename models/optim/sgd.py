"""Stochastic gradient descent with momentum, classical or Nesterov's."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from models.optim.base import StatefulOptimizer


class Sgd(StatefulOptimizer):
    """SGD by torch's fused kernels."""

    # A velocity of zeros gives the same first step as none.
    STATE: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]] = {"velocities": torch.zeros_like}

    def _update(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: Mapping[str, list[Tensor]],
    ) -> None:
        momentum = self._settings.momentum
        sgd(
            parameters,
            gradients,
            list(state["velocities"]),
            fused=True,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=momentum,
            dampening=0.0,
            # Without momentum, Nesterov's variant is plain descent.
            nesterov=self._settings.nesterov and momentum > 0,
            maximize=False,
        )
