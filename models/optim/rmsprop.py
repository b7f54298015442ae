"""RMSProp as TensorFlow and EfficientNet have it.

    square   = 0.9 * square + 0.1 * gradient ** 2, which starts at 1
    velocity = momentum * velocity + rate * gradient / sqrt(square + 0.001)
    w        = w - velocity

torch's own starts at 0 and adds epsilon outside the root, so that the first steps are far larger.
Sources: tensorflow/python/training/rmsprop.py (the slot "rms" is of ones, epsilon is inside the
root) and efficientnet/utils.py of tensorflow/tpu (decay 0.9, momentum 0.9, epsilon 0.001), which
"Self-training with noisy student" (Xie et al. 2020) uses. Weight decay is part of the gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.optim.base import StatefulOptimizer

DECAY = 0.9
EPSILON = 1e-3


class RmsProp(StatefulOptimizer):
    """TensorFlow's RMSProp by torch's kernels for lists of tensors."""

    STATE: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]] = {
        "squares": torch.ones_like,
        "velocities": torch.zeros_like,
    }

    def _update(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: Mapping[str, list[Tensor]],
    ) -> None:
        squares, velocities = state["squares"], state["velocities"]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, DECAY)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - DECAY)
        roots = torch._foreach_add(squares, EPSILON)
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(velocities, self._settings.momentum)
        torch._foreach_addcdiv_(velocities, gradients, list(roots), value=group["lr"])
        torch._foreach_sub_(parameters, velocities)
