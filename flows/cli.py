"""cli: the command `protege`.

protege demo                                       the whole method on digits, on this machine
protege recipes                                    what can be run, with presets
protege plan billion-scale --preset imagenet-yfcc  lengths in steps, before anything runs
protege run billion-scale --config mine.yaml       run, or go on with what is unfinished
protege resume billion-scale-1f3a0b2c-000          go on with a campaign by its name
protege show protege-output/score/3f2a...          what a table, a model or an output is
protege up                                         server, UI and worker; flows/operate/commands.py
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from flows.commands.server import EXAMPLES, Root, need_server
from flows.commands.server import app as operating
from flows.operate.lifecycle import use_running_server
from infra.errors import ProtegeError
from infra.settings import Settings
from tasks.options import problems

app = typer.Typer(
    help="Few labels and a pile of unlabelled images in, a better small model out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(operating)

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
) -> None:
    """Run a recipe, or go on with it where it stopped."""
    options = _options(recipe, preset, config, sets, seed)
    if deployment:
        _submit(recipe, options, root)
        return
    from flows.campaign.summary import show
    from flows.engine.execute import execute

    use_running_server()
    show(execute(recipe, options, root or Settings().root))


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
    from flows.billion_scale.plan import plan as lines
    from flows.billion_scale.plan import sizes

    options = _options(recipe, preset, config, sets, seed)
    if as_yaml:
        typer.echo(yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False))
        return
    for line in lines(options, *sizes(options, images, classes)):
        typer.echo(line)


@app.command()
def recipes() -> None:
    """List the recipes and their presets."""
    from flows.recipes import RECIPES

    for one in RECIPES.values():
        typer.echo(f"{one.name}: {one.about}")
        for preset, about in one.presets.items():
            typer.echo(f"  --preset {preset}: {about}")


@app.command(epilog=EXAMPLES + "protege resume billion-scale-1f3a0b2c-000 --root s3://bucket/out")
def resume(
    run: Annotated[str, typer.Argument(help="Name of a campaign, or of a run of the server.")],
    root: Root = "",
) -> None:
    """Go on with a campaign that was interrupted, or retry a run of the server.

    A campaign goes on here, with the options that it was started with; a run, as Retry in the UI
    does it, on its worker.
    """
    from flows.campaign.summary import show
    from flows.engine.execute import execute, resumed_options
    from infra.store import open_store
    from tasks.campaigns import campaigns

    place = root or Settings().root
    found = {one.id: one for one in campaigns(open_store(place))}
    served = use_running_server()
    if run in found:
        name = found[run].recipe
        show(execute(name, resumed_options(found[run].options, name), place))
    elif served:
        _retry(run)
    else:
        known = ", ".join(found) or "none"
        raise ProtegeError(f"{place} has no campaign {run!r}; there are: {known}")


@app.command(epilog=EXAMPLES + "protege show demo-output/store/topk/5f0c.../part-00000.parquet")
def show(uri: Annotated[str, typer.Argument(help="Address of an output, table or model.")]) -> None:
    """Say what a table, a model, a manifest or an output folder is, and where it came from."""
    from flows.commands.show import describe

    for line in describe(uri):
        typer.echo(line)


@app.command(epilog=EXAMPLES + "protege demo --seeds 0,1,2,3,4")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, outputs and figures.")] = Path(
        "demo-output"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Decides the data and the run.")] = 0,
    seeds: Annotated[
        str, typer.Option(help="Several seeds, each also with a random choice: 0,1,2.")
    ] = "",
) -> None:
    """Run the whole method on real images: 50 labelled digits and a pile of 11,950 cells."""
    from flows.campaign.summary import show as show_summary
    from flows.demo import demo as run_demo
    from flows.demo import demo_seeds
    from flows.demo.seeds import show_seeds

    if seeds:
        try:
            numbers = [int(one) for one in seeds.split(",")]
        except ValueError:
            raise ProtegeError(f"--seeds {seeds}: write numbers with commas, as 0,1,2") from None
        show_seeds(demo_seeds(out, numbers))
    else:
        show_summary(run_demo(out, seed))
        typer.echo(f"figures: {out / 'summary.json'}")


def _submit(name: str, options: Any, root: str) -> None:
    """Start a run of the recipe's deployment, and say where to watch it."""
    need_server()
    from flows.engine.execute import sections_of
    from flows.operate.runs import page_of, submit

    parameters = {key: one.model_dump(mode="json") for key, one in sections_of(options).items()}
    started = submit(f"{name}/default", {**parameters, "root": root})
    typer.echo(f"run {started.name}: {page_of(started)}")


def _retry(run: str) -> None:
    from flows.operate.runs import page_of, retry

    again = retry(run)
    typer.echo(f"run {again.name} goes on: {page_of(again)}")


def _options(name: str, preset: str, config: Path | None, sets: list[str], seed: int | None) -> Any:
    from flows.commands.config import read_options
    from flows.recipes import recipe

    chosen = recipe(name)
    options = read_options(chosen.load_options(), chosen.preset(preset), config, sets)
    return options if seed is None else options.seeded(seed)


def main(command: Callable[[], None] = app) -> int:
    """The entry point: an error that people can mend is printed as it is, without a traceback."""
    try:
        command()
    except (ProtegeError, ValidationError) as error:
        # Settings are checked wherever they are first read, so their errors end here.
        told = problems(error, Settings) if isinstance(error, ValidationError) else [str(error)]
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            "error: " + "\n".join(told), style="red", markup=False
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
