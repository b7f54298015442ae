"""AdamW: the adaptive rates of Adam, with a weight decay that is not part of the gradient.

"Decoupled weight decay regularization" (Loshchilov and Hutter 2019, algorithm 2). The momentum of
the settings is beta 1; beta 2 and epsilon are those of "Adam" (Kingma and Ba 2015, algorithm 1).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from models.optim.base import StatefulOptimizer

BETA_2 = 0.999
EPSILON = 1e-8


def _no_steps(parameter: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float32, device=parameter.device)


class AdamW(StatefulOptimizer):
    """AdamW by torch's fused kernels."""

    STATE: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]] = {
        "means": torch.zeros_like,
        "squares": torch.zeros_like,
        "steps": _no_steps,
    }

    def _update(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: Mapping[str, list[Tensor]],
    ) -> None:
        adamw(
            parameters,
            gradients,
            state["means"],
            state["squares"],
            [],
            state["steps"],
            fused=True,
            amsgrad=False,
            beta1=self._settings.momentum,
            beta2=BETA_2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )
