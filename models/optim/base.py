"""What every optimizer is built from: groups of parameters, and plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

# In torch's own form: {"params": [...], "weight_decay": ...}.
ParameterGroups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerSettings:
    """Values of an optimizer; each reads those that it has."""

    learning_rate: float
    momentum: float
    nesterov: bool


class Optimizer(Protocol):
    """What the training loop asks of an optimizer. `torch.optim.Optimizer` has it all."""

    param_groups: ParameterGroups

    def step(self) -> Any:
        """Update the parameters from their gradients."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from a checkpoint. Raises ValueError when it is that of another network."""


def parameter_groups(network: nn.Module, weight_decay: float) -> ParameterGroups:
    """Parameters with weight decay, and those without.

    Weights of convolutions and linear layers decay. Biases, and scales and shifts of norms, do not:
    they have one dimension ("Bag of tricks for image classification", He et al. 2018, section 3.1).
    """
    parameters = list(network.parameters())
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
