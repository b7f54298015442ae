"""Commands of the server: up, down, status, arrived, champion, retry.

protege up                              server, UI, worker and reports on this machine
protege status
protege down
protege arrived s3://bucket/pile        new images have arrived: retrain what reads them
protege champion                        the student that is in use, and those before it
protege champion --rollback
protege rejects --recheck protege-output/shard/3f2a...   look once more at rejected files
"""

import os
from typing import Annotated

import typer

from flows.operate import lifecycle as updown
from flows.operate.state import Home
from infra.errors import ProtegeError
from infra.settings import Settings
from infra.store import open_store

app = typer.Typer()

EXAMPLES = "\b\nExamples:\n  "
Root = Annotated[
    str, typer.Option(help="Folder or s3:// prefix of all outputs; default: PROTEGE_ROOT.")
]
Name = Annotated[str, typer.Argument(help="Name of the champion.")]


@app.command(epilog=EXAMPLES + "PROTEGE_DATABASE=postgresql://me:secret@host/protege protege up")
def up() -> None:
    """Start server, UI, worker and reports on this machine, and register all deployments.

    May be repeated: what runs stays, what is missing is started. Settings: PROTEGE_ROOT,
    PROTEGE_DATABASE, PROTEGE_PORT, PROTEGE_PAGES_PORT, PROTEGE_NOTIFY, PROTEGE_HOME.
    """
    for line in updown.up(Home(), updown.asked_by(Settings())):
        typer.echo(line)


@app.command()
def down() -> None:
    """Stop all that `up` has started; runs at work end as Crashed, and Retry goes on with them."""
    for line in updown.down(Home()):
        typer.echo(line)


@app.command()
def status() -> None:
    """Say whether the server is up, where, and what is at work."""
    for line in updown.status(Home()):
        typer.echo(line)


@app.command(epilog=EXAMPLES + "protege arrived s3://bucket/pile")
def arrived(source: Annotated[str, typer.Argument(help="The source that has grown.")]) -> None:
    """Say that new images have arrived in a source: the campaigns that read it are retrained."""
    need_server()
    from flows.operate.runs import announce

    typer.echo(f"data.arrived: {announce(source)}")


@app.command(epilog=EXAMPLES + "protege champion --rollback")
def champion(
    name: Name = "main",
    rollback: Annotated[bool, typer.Option(help="Go back to the champion before.")] = False,
    promote: Annotated[str, typer.Option(help="Put this campaign's student in place.")] = "",
    root: Root = "",
) -> None:
    """Show the student that is in use, with its history; go back, or put another in its place."""
    from flows.retrain import champion as champions

    store = open_store(root or Settings().root)
    if promote:
        champions.promote(store, name, promote)
    if rollback:
        champions.rollback(store, name)
    history = champions.pointer(store, name).history()
    if not history:
        raise ProtegeError(
            f"{store.uri} has no champion {name!r} yet: retrain makes one, or --promote CAMPAIGN"
        )
    for entry in history:
        typer.echo(f"{entry.number:>4}  {entry.content['at']}  {entry.content['why']}")
    last = history[-1].content
    typer.echo(f"champion: {last['campaign']}")
    typer.echo(f"weights: {last['student']['uri']}/weights.safetensors")


@app.command(epilog=EXAMPLES + "protege rejects --recheck protege-output/shard/3f2a90cc11d0ab42")
def retry(
    images: Annotated[str, typer.Argument(help="Address of an output of shard.")], root: Root = ""
) -> None:
    """Look once more at files that could not be used; the next run takes those that now can."""
    from tasks.contract import output_at
    from tasks.shard.recheck import recheck_rejects

    store = open_store(root or Settings().root)
    for line in recheck_rejects(store, output_at(images, "shard")).lines():
        typer.echo(line)


def need_server() -> str:
    """Point Prefect to a server; returns its address. Raises ProtegeError when there is none."""
    if not updown.use_running_server():
        raise ProtegeError("no server is up: `protege up` starts one, or set PREFECT_API_URL")
    return os.environ["PREFECT_API_URL"]
