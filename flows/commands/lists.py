"""Commands that list what there is: recipes.

protege recipes        what can be run, with presets
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
