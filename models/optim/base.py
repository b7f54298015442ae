"""What every optimizer is built from: groups of parameters, and plain values."""

from dataclasses import dataclass
from typing import Any

from torch import nn

# In torch's own form: {"params": [...], "weight_decay": ...}.
ParameterGroups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerSettings:
    """Values of an optimizer; each reads those that it has."""

    learning_rate: float
    momentum: float
    nesterov: bool


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
