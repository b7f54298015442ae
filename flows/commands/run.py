"""Commands that run a recipe: run, resume, demo.

protege run billion-scale --config mine.yaml    run, or go on with what is unfinished
protege resume billion-scale-1f3a0b2c-000       go on with a campaign by its name
protege demo                                    the whole method on real images, on this machine
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.campaign.options import RecipeOptions
from flows.commands.arguments import (
    EXAMPLES,
    AsJson,
    Config,
    Preset,
    RecipeName,
    Root,
    Seed,
    Sets,
    recipe_options,
)
from flows.commands.join import leading
from flows.commands.server import need_server
from flows.operate.lifecycle import use_running_server
from infra.errors import ProtegeError, usable_root
from infra.settings import Settings

INTERRUPTED = 130  # what shells say of a command that Ctrl-C has ended

app = typer.Typer()


@app.command(
    epilog=EXAMPLES + "protege run billion-scale --set labelled.source=labelled/ "
    "--set pile.source=s3://bucket/pile --set test.source=test/"
)
def run(
    recipe: RecipeName,
    preset: Preset = "",
    config: Config = None,
    sets: Sets = [],  # noqa: B006  typer reads the default once and copies it
    seed: Seed = None,
    root: Root = "",
    deployment: Annotated[
        bool, typer.Option("--deployment", help="Hand it to the server; a worker runs it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe, or go on with it where it stopped.

    What can be checked before any work is checked first: sources, classes, weights, and whether
    the trainings fit this machine.
    """
    options = recipe_options(recipe, preset, config, sets, seed, here=not deployment)
    if deployment:
        _submit(recipe, options.resolved(), root)
        return
    from flows.engine.execute import execute

    use_running_server()
    with resumable():
        _show(execute(recipe, options, root or Settings().root), as_json)


@app.command(epilog=EXAMPLES + "protege resume billion-scale-1f3a0b2c-000 --root s3://bucket/out")
def resume(
    run: Annotated[str, typer.Argument(help="Name of a campaign, or of a run of the server.")],
    root: Root = "",
    as_json: AsJson = False,
) -> None:
    """Continue a campaign on this machine, or retry a run of the server.

    A campaign continues with its own options; a run of the server is retried on its worker.
    """
    from flows.engine.execute import resume as resume_campaign
    from infra.store import open_store
    from tasks.campaigns import campaigns

    place = root or Settings().root
    with usable_root(place):
        found = {campaign.id: campaign for campaign in campaigns(open_store(place))}
    served = use_running_server()
    if run in found:
        with resumable():
            _show(resume_campaign(found[run], place), as_json)
    elif served:
        _retry(run)
    else:
        known = ", ".join(found) or "none"
        raise ProtegeError(f"{place} has no campaign {run!r}; there are: {known}")


class DataName(StrEnum):
    """The images of the demo."""

    DIGITS = "digits"
    FASHION = "fashion"
    ICONS = "icons"


@app.command(
    epilog=EXAMPLES + "protege demo --seeds 0,1,2,3,4\n  protege demo --data icons\n  "
    "protege demo --data fashion --source fashion-mnist/data/fashion"
)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, outputs and figures.")] = Path(
        "demo-output"
    ),
    data: Annotated[
        DataName,
        typer.Option(help="Digits, goods of Fashion-MNIST, or icons by 158 designers."),
    ] = DataName.DIGITS,
    source: Annotated[
        Path | None,
        typer.Option(help="Folder with the files of fashion or icons; else they are fetched."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the data and the run.")] = 0,
    seeds: Annotated[
        str, typer.Option(help="Several seeds, each also with a random choice: 0,1,2.")
    ] = "",
) -> None:
    """Run the whole method on real images: few labels, and a pile of thousands without."""
    from flows.campaign.summary import show
    from flows.demo import demo as run_demo
    from flows.demo import demo_seeds, prepare_digits, prepare_fashion, prepare_icons
    from flows.demo.seeds import show_seeds

    if source and data is DataName.DIGITS:
        raise ProtegeError("--source is of fashion or icons: add --data fashion, or --data icons")
    numbers = _seeds(seeds)
    place = out if data is DataName.DIGITS else out / data.value
    prepare = {
        DataName.DIGITS: partial(prepare_digits, place),
        DataName.FASHION: partial(prepare_fashion, place, source=source),
        DataName.ICONS: partial(prepare_icons, place, source=source),
    }[data]
    with resumable():
        if numbers:
            show_seeds(demo_seeds(place, numbers, prepare))
        else:
            show(run_demo(place, seed, prepare))
            typer.echo(f"figures: {place / 'summary.json'}")


def _seeds(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")] if text else []
    except ValueError:
        raise ProtegeError(f"--seeds {text}: write numbers with commas, as 0,1,2") from None


def _show(result: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=1, ensure_ascii=False))
        return
    from flows.campaign.summary import show

    show(result)


@contextmanager
def resumable() -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost. In a job on several machines, run on the leading one."""
    try:
        with leading():
            yield
    except KeyboardInterrupt:
        typer.echo(
            "stopped. What is finished is kept: the same command goes on from there; should the "
            "sources change, `protege resume CAMPAIGN` does",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None


def _submit(name: str, options: RecipeOptions, root: str) -> None:
    """Start a run of the recipe's deployment, and say where to watch it."""
    need_server()
    from flows.campaign.find import sections_of
    from flows.operate.runs import run_url, submit

    sections = sections_of(options).items()
    parameters = {key: section.model_dump(mode="json") for key, section in sections}
    started = submit(f"{name}/default", {**parameters, "root": root})
    typer.echo(f"run {started.name}: {run_url(started)}")


def _retry(name: str) -> None:
    from flows.operate.runs import retry, run_url

    run = retry(name)
    typer.echo(f"run {run.name} goes on: {run_url(run)}")
