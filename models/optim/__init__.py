"""Optimizers by name.

    settings = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=False)
    optimizer = make_optimizer("sgd", settings, parameter_groups(network, weight_decay=1e-4))

A new optimizer is a file in this folder and a line in `OPTIMIZERS`.
"""

from collections.abc import Callable, Mapping

from models.optim.base import Optimizer, OptimizerSettings, ParameterGroups, parameter_groups
from models.optim.sgd import Sgd

__all__ = ["OPTIMIZERS", "Optimizer", "OptimizerSettings", "make_optimizer", "parameter_groups"]

OPTIMIZERS: Mapping[str, Callable[[OptimizerSettings, ParameterGroups], Optimizer]] = {"sgd": Sgd}


def make_optimizer(name: str, settings: OptimizerSettings, groups: ParameterGroups) -> Optimizer:
    """The optimizer of this name, on these parameters. Raises ValueError for an unknown name."""
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r}; there are: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](settings, groups)
