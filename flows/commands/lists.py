"""Commands that list what there is: recipes, models.

protege recipes        what can be run, with presets
protege models         the networks, with their parameters and the size of their inputs
"""

import json

import typer

from flows.commands.arguments import AsJson
from flows.recipes import RECIPES

app = typer.Typer()


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """List the recipes and their presets."""
    if as_json:
        found = {name: dict(recipe.presets) for name, recipe in RECIPES.items()}
        typer.echo(json.dumps(found, indent=1))
        return
    for recipe in RECIPES.values():
        typer.echo(f"{recipe.name}: {recipe.about}")
        for preset, about in recipe.presets.items():
            typer.echo(f"  --preset {preset}: {about}")


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the networks that teacher.model and student.model can be."""
    from models.registry import NETWORKS

    if as_json:
        found = {
            record.name: {
                "parameters": record.num_parameters,
                "input_size": record.input_size,
                "imagenet_top1": {known.weights: known.top1 for known in record.published},
            }
            for record in NETWORKS.values()
        }
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{'model':<18}{'parameters':>12}  inputs")
    for record in NETWORKS.values():
        size = f"{record.input_size} px"
        typer.echo(f"{record.name:<18}{record.num_parameters:>12,}  {size}")
    typer.echo("timm/<name>: every network of the package timm, where it is installed")
