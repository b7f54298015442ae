"""Arguments that several commands share, and the options of a recipe out of them."""

from pathlib import Path
from typing import Annotated

import typer

from flows.campaign.options import RecipeOptions
from infra.devices import gpu_count
from infra.settings import Settings

EXAMPLES = "\b\nExamples:\n  "

RecipeName = Annotated[
    str, typer.Argument(help="Name of the recipe; `protege recipes` lists them.")
]
Preset = Annotated[
    str, typer.Option(help="Whole options to start from: `protege recipes` lists them.")
]
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
    name: str,
    preset: str,
    config: Path | None,
    sets: list[str],
    seed: int | None,
    *,
    here: bool = True,
) -> RecipeOptions:
    """The options of a recipe from all that was given. Raises ProtegeError.

    Without a preset, that for machines without a GPU, or the defaults; it says which. What another
    machine will run has the defaults.
    """
    from flows.commands.config import read_options
    from flows.recipes import DEFAULT, recipe
    from flows.terminal import note

    chosen = recipe(name)
    # Other machines than this one are meant for trainings because they have GPUs.
    has_gpu = bool(gpu_count() or Settings().training.hosts)
    for_this_machine = chosen.without_gpu if here and not preset and not has_gpu else ""
    base = chosen.preset(preset or for_this_machine or DEFAULT)
    options = read_options(chosen.load_options(), base, config, sets)
    if for_this_machine:
        note(
            f"no GPU here: the options are those of the preset {for_this_machine} where nothing "
            f"else is said; --preset {DEFAULT} is meant for GPUs"
        )
    return options if seed is None else options.seeded(seed)
