"""The command `replay`: the step that ended a training, again, layer by layer.

protege replay protege-output/train/5f0c...     a training whose loss was not finite
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES
from flows.terminal import note

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege replay protege-output/train/5f0c90aa11d0ab42")
def replay(
    address: Annotated[str, typer.Argument(help="Address of the output of the training.")],
    page: Annotated[
        Path | None,
        typer.Option(help="File for the images and layers; default: replay-<step>.html here."),
    ] = None,
) -> None:
    """Make the step again that ended a training, and say where a value is no number first."""
    from flows.commands.describe import readable
    from tasks.train.replay import replay as make_again
    from tasks.train.replay_page import replay_lines, replay_page

    with readable(address):
        replayed = make_again(address, note)
    for line in replay_lines(replayed):
        typer.echo(line)
    file = page or Path(f"replay-{replayed.step}.html")
    file.write_text(replay_page(replayed), encoding="utf-8")
    note(f"images and layers: {file.absolute()}")
