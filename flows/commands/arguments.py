"""Arguments that several commands share, and the options of a recipe out of them."""

from pathlib import Path
from typing import Annotated

import typer

from flows.campaign.options import RecipeOptions

EXAMPLES = "\b\nExamples:\n  "

RecipeName = Annotated[
    str, typer.Argument(help="Name of the recipe; `protege recipes` lists them.")
]
Preset = Annotated[str, typer.Option(help="Start from this preset instead of the defaults.")]
Config = Annotated[
    Path | None, typer.Option(help="YAML file: a mapping of sections, as `plan --yaml` prints.")
]
Sets = Annotated[
    list[str], typer.Option("--set", help="section.field=value; may be given many times.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Set every seed of the recipe at once.")]
Root = Annotated[
    str, typer.Option(help="Folder or s3:// prefix of all outputs; default: PROTEGE_ROOT.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON, for programs.")]


def recipe_options(
    name: str, preset: str, config: Path | None, sets: list[str], seed: int | None
) -> RecipeOptions:
    """The options of a recipe from all that was given. Raises ProtegeError."""
    from flows.commands.config import read_options
    from flows.recipes import recipe

    chosen = recipe(name)
    options = read_options(chosen.load_options(), chosen.preset(preset), config, sets)
    return options if seed is None else options.seeded(seed)
