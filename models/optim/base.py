"""What every optimizer is built from: groups of parameters, plain values, state by parameter."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from models.network import Network
from models.optim.layers import layer_groups

# In torch's own form: {"params": [...], "weight_decay": ..., "rate_factor": ..., "adapts": ...}.
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


class StatefulOptimizer(ABC):
    """An optimizer on groups that say their own weight decay and factor of the learning rate.

    `STATE` is what it keeps for each parameter, by name, as a function of the parameter at step 0.
    The classes of `torch.optim` are not used: they load torch's compiler when they are made, which
    takes 1.6 s of every training process and compiles nothing.
    """

    STATE: ClassVar[Mapping[str, Callable[[Tensor], Tensor]]]

    def __init__(self, settings: OptimizerSettings, groups: ParameterGroups) -> None:
        rate = settings.learning_rate
        self.param_groups = [{**group, "lr": rate * group["rate_factor"]} for group in groups]
        self._settings = settings
        self._state = {
            name: [[start(parameter.detach()) for parameter in group["params"]] for group in groups]
            for name, start in self.STATE.items()
        }

    @abstractmethod
    def _update(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: Mapping[str, list[Tensor]],
    ) -> None:
        """Update the parameters of a group, all of which have a gradient, and their state."""

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for index, group in enumerate(self.param_groups):
            have_gradient = [parameter.grad is not None for parameter in group["params"]]
            parameters = list(compress(group["params"], have_gradient))
            state = {
                name: list(compress(groups[index], have_gradient))
                for name, groups in self._state.items()
            }
            if parameters:
                gradients = [parameter.grad for parameter in parameters]
                self._update(group, parameters, gradients, state)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. Learning rates are functions of the step."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with this state. Raises ValueError when it is that of another network."""
        for name, groups in self._state.items():
            for own, saved in zip(groups, state[name], strict=True):
                for tensor, values in zip(own, saved, strict=True):
                    tensor.copy_(values)


def parameter_groups(
    network: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> ParameterGroups:
    """Parameters by what an optimizer does with them; those of frozen layers are left out.

    Weights of convolutions and linear layers decay. Biases, and scales and shifts of norms, do not:
    they have one dimension ("Bag of tricks for image classification", He et al. 2018, section 3.1).
    `adapts` says whether LARS adapts the rate to the layer: those that decay, but for the head of
    classes (SimCLRv2's code, model.py: "batch_normalization", "bias" and "head_supervised").

    `rate_factor` multiplies the learning rate: it is 1 in the head, and `layer_decay` times that of
    the group above in each group of layers below ("BEiT", Bao et al. 2021, appendix H).
    """
    head = network.head if isinstance(network, Network) and network.has_head else None
    layers = layer_groups(network)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for depth, parameters in enumerate(reversed(layers)):
        for parameter in parameters:
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim > 1
            adapts = decays and (head is None or parameter is not head.weight)
            groups.setdefault((layer_decay**depth, decays, adapts), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "rate_factor": factor,
            "adapts": adapts,
        }
        for (factor, decays, adapts), parameters in groups.items()
    ]


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scale all gradients alike, so that the norm of all of them together is `max_norm` at most.

    "On the difficulty of training recurrent neural networks" (Pascanu et al. 2013, algorithm 1).
    """
    nn.utils.clip_grad_norm_(parameters, max_norm)
