"""Optimizers by name.

    settings = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=False)
    optimizer = make_optimizer("sgd", settings, parameter_groups(network, weight_decay=1e-4))

A new optimizer is a file in this folder and a line in `OPTIMIZERS`.

base.py     groups of parameters, and what all optimizers share
layers.py   the layers of a network from its input up to its head
"""

from collections.abc import Callable, Mapping

from models.optim.adamw import AdamW
from models.optim.base import (
    Optimizer,
    OptimizerSettings,
    ParameterGroups,
    clip_gradients,
    parameter_groups,
)
from models.optim.lars import Lars
from models.optim.layers import freeze_layers, layer_groups, set_training
from models.optim.rmsprop import RmsProp
from models.optim.sgd import Sgd

__all__ = [
    "OPTIMIZERS",
    "Optimizer",
    "OptimizerSettings",
    "clip_gradients",
    "freeze_layers",
    "layer_groups",
    "make_optimizer",
    "parameter_groups",
    "set_training",
]

OPTIMIZERS: Mapping[str, Callable[[OptimizerSettings, ParameterGroups], Optimizer]] = {
    "sgd": Sgd,
    "adamw": AdamW,
    "lars": Lars,
    "rmsprop": RmsProp,
}


def make_optimizer(name: str, settings: OptimizerSettings, groups: ParameterGroups) -> Optimizer:
    """The optimizer of this name, on these parameters. Raises ValueError for an unknown name."""
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r}; there are: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](settings, groups)
