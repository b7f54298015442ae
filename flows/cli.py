"""cli: the command `protege`. Its groups stand in flows/commands/.

protege demo                                       the whole method on real images, on this machine
protege recipes                                    what can be run, with presets
protege models resnext                             networks, and what their weights reach
protege plan billion-scale --preset imagenet-yfcc  lengths in steps, before anything runs
protege run billion-scale --config mine.yaml       run, or go on with what is unfinished
protege resume billion-scale-1f3a0b2c-000          go on with a campaign by its name
protege show protege-output/score/3f2a...          what a table, a model or an output is
protege compare billion-scale-1f3a... simclr-v2-9c41...  campaigns side by side
protege augmented protege-output/train/3f2a...  images beside their random changes, as HTML
protege rejects protege-output/shard/3f2a...       images that could not be used
protege chosen billion-scale-1f3a0b2c-000          the chosen files, as CSV
protege export billion-scale-1f3a... --out student  the student as ONNX, for timm, for the hub
protege predict billion-scale-1f3a... photos/      the classes of images, as CSV or Parquet
protege replay protege-output/train/5f0c...        the step at which a loss was no number, again
protege up, status, down                           server, UI and worker
protege champion                                   the student that is in use
protege join                                       lend this machine to the trainings of a job
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from flows.commands import (
    augmented,
    champion,
    chosen,
    compare,
    export,
    join,
    lists,
    models,
    plan,
    predict,
    replay,
    run,
    server,
    show,
)
from flows.terminal import be_quiet
from infra.errors import ProtegeError
from infra.settings import Settings
from tasks.options import problems

EPILOG = (
    "Exit status: 0 done; 1 refused or failed, with a sentence on standard error; 2 wrong usage; "
    "3 the server is down (status); 130 interrupted. Standard output has the result alone."
)

app = typer.Typer(
    help="Few labels and a pile of unlabelled images in, a better small model out.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
GROUPS = (
    *(run, plan, lists, models, show, compare, augmented, chosen, export, predict, replay),
    *(server, champion, join),
)
for group in GROUPS:
    app.add_typer(group.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protege {version('protege')}")
        raise typer.Exit


@app.callback()
def protege(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result and errors only.")
    ] = False,
) -> None:
    """Few labels and a pile of unlabelled images in, a better small model out."""
    if quiet:
        be_quiet()


def main(command: Callable[[], None] = app) -> int:
    """The entry point: an error that people can mend is printed as it is, without a traceback."""
    try:
        command()
    except (ProtegeError, ValidationError) as error:
        # Settings are checked wherever they are first read, so their errors end here.
        lines = problems(error, Settings) if isinstance(error, ValidationError) else [str(error)]
        Console(stderr=True, markup=False, soft_wrap=True, highlight=False).print(
            "error: " + "\n".join(lines), style="red"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
