"""Named model: what a person types for a model, as its address.

In: the name of a campaign, whose result is meant, or an address: a training's folder, a weights
file. Out: the address, and what is known of the model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from infra.errors import ProtegeError, usable_root
from infra.store import open_store
from tasks.campaigns import Campaign, find

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Name of a campaign, or address of a training's output or a weights file.",
    ),
]


@dataclass(frozen=True)
class NamedModel:
    """The address of a model, and the campaign that it is the result of, if it was named so."""

    address: str
    campaign: Campaign | None = None


def find_model(name: str, root: str) -> NamedModel:
    """The model that is meant. Raises ProtegeError for a campaign that has none yet."""
    from flows.recipes import recipe

    if "/" in name or name.endswith(".safetensors"):
        return NamedModel(name)
    with usable_root(root):
        found = find(open_store(root), name)
    if found is None:
        if not Path(name).is_dir():
            raise ProtegeError(
                f"{open_store(root).uri} has no campaign {name!r}, and there is no such folder: "
                "`protege campaigns` lists campaigns; another root is given with --root or "
                "PROTEGE_ROOT"
            )
        return NamedModel(name)
    known = recipe(found.recipe)
    if known.result not in found.outputs:
        raise ProtegeError(
            f"{name} has no {known.result or 'model'} yet: `protege resume {name}` goes on with it"
        )
    return NamedModel(found.outputs[known.result].uri, found)
