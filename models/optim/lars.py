"""LARS: momentum with a rate for each layer, in proportion to the norm of its weights.

"Large batch training of convolutional networks" (You et al. 2017, section 4), in the form of
SimCLRv2 (Chen et al. 2020; lars_optimizer.py of google-research/simclr): the weight decay is part
of the gradient, the learning rate is inside the velocity, and biases, norms and the head of classes
have neither decay nor a rate of their own.

    gradient = g + decay * w
    ratio    = 0.001 * |w| / |gradient|, or 1 where one of the norms is 0
    velocity = momentum * velocity + rate * ratio * gradient
    w        = w - velocity
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.optim.base import StatefulOptimizer

TRUST_COEFFICIENT = 0.001


class Lars(StatefulOptimizer):
    """LARS by torch's kernels for lists of tensors."""

    STATE: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]] = {"velocities": torch.zeros_like}

    def _update(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: Mapping[str, list[Tensor]],
    ) -> None:
        momentum, velocities = self._settings.momentum, state["velocities"]
        if group["adapts"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            torch._foreach_mul_(gradients, _trust_ratios(parameters, gradients))
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients, alpha=group["lr"])
        if self._settings.nesterov:
            torch._foreach_add_(parameters, velocities, alpha=-momentum)
            torch._foreach_add_(parameters, gradients, alpha=-group["lr"])
        else:
            torch._foreach_sub_(parameters, velocities)


def _trust_ratios(parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """How much smaller the rate of each layer is."""
    weights_N = torch.stack(list(torch._foreach_norm(parameters)))
    gradients_N = torch.stack(list(torch._foreach_norm(gradients)))
    is_defined_N = (weights_N > 0) & (gradients_N > 0)
    ratios_N = torch.where(is_defined_N, TRUST_COEFFICIENT * weights_N / gradients_N, 1.0)
    return list(ratios_N.unbind())
