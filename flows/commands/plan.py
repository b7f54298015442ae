"""Commands that say what can be run, and what it will take: recipes, plan.

protege recipes                                    what can be run, with presets
protege plan billion-scale --preset imagenet-yfcc  lengths in steps, before anything runs
"""

from typing import Annotated

import typer
import yaml

from flows.campaign.options import RecipeOptions
from flows.commands.arguments import (
    EXAMPLES,
    Config,
    Preset,
    RecipeName,
    Seed,
    Sets,
    recipe_options,
)
from flows.recipes import RECIPES, Recipe
from flows.recipes import recipe as recipe_of

IMAGENET_IMAGES, IMAGENET_CLASSES = 1_281_167, 1_000

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege plan billion-scale --preset imagenet-yfcc")
def plan(
    recipe: RecipeName,
    preset: Preset = "",
    config: Config = None,
    sets: Sets = [],  # noqa: B006  typer reads the default once and copies it
    seed: Seed = None,
    images: Annotated[int, typer.Option(help="Labelled images, when no source is given.")] = 0,
    classes: Annotated[int, typer.Option(help="Classes, when no source is given.")] = 0,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print all options as YAML.")] = False,
) -> None:
    """Check options and print what they amount to: steps, learning rates, lessons."""
    options = recipe_options(recipe, preset, config, sets, seed)
    if as_yaml:
        typer.echo(yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False))
        return
    known = recipe_of(recipe)
    for line in known.plan(options, *_sizes(known, options, images, classes)).lines():
        typer.echo(line)


@app.command()
def recipes() -> None:
    """List the recipes and their presets."""
    for recipe in RECIPES.values():
        typer.echo(f"{recipe.name}: {recipe.about}")
        for preset, about in recipe.presets.items():
            typer.echo(f"  --preset {preset}: {about}")


def _sizes(recipe: Recipe, options: RecipeOptions, images: int, classes: int) -> tuple[int, int]:
    """Labelled images and classes: as given, as the source has them, or as ImageNet has them."""
    labelled = getattr(options, recipe.labelled) if recipe.labelled else None
    if labelled is not None and labelled.source and not (images and classes):
        files = labelled.list_files()
        names = {file.label for file in files}
        return images or len(files), classes or len(names)
    return images or IMAGENET_IMAGES, classes or IMAGENET_CLASSES
