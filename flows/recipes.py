"""Recipes: what can be run, by name, with the presets of each.

In: a name. Out: a `Recipe`. Flows are imported when they are asked for, because Prefect is slow to
load and most commands do not need it.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from infra.errors import ProtegeError


@dataclass(frozen=True)
class Recipe:
    """A recipe: where its flow and its options stand, and its presets."""

    name: str
    about: str
    module: str
    flow: str
    options: str
    presets: dict[str, str]

    def load_flow(self) -> Callable[..., Any]:
        """The Prefect flow."""
        flow: Callable[..., Any] = getattr(import_module(f"{self.module}.method"), self.flow)
        return flow

    def load_options(self) -> Any:
        """The class of the root options."""
        return getattr(import_module(f"{self.module}.options"), self.options)

    def preset(self, name: str) -> Any:
        """The options of a preset; the empty name gives the defaults. Raises ProtegeError."""
        if not name:
            return self.load_options()()
        if name not in self.presets:
            raise ProtegeError(f"no preset {name!r}; there are: {', '.join(self.presets)}")
        module = import_module(f"{self.module}.presets")
        return getattr(module, name.replace("-", "_"))()


RECIPES = {
    "billion-scale": Recipe(
        name="billion-scale",
        about="Teacher, best K of each class, student, fine-tuning (Yalniz et al. 2019)",
        module="flows.billion_scale",
        flow="billion_scale",
        options="BillionScale",
        presets={
            "digits": "the demo: 50 labelled digits, a pile of 11,950 cells, on a laptop",
            "imagenet-yfcc": "the paper's setting: ImageNet-1k and YFCC100M, a ResNet-50 student",
        },
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ProtegeError with the nearest one."""
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(RECIPES)}"
        raise ProtegeError(f"there is no recipe {name!r}; {hint}")
    return RECIPES[name]
