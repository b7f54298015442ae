"""Commands of the server: up, down, status, arrived.

protege up                              server, UI, worker and reports on this machine
protege status
protege down
protege arrived s3://bucket/pile        new images have arrived: retrain what reads them
"""

import os
from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES
from flows.operate import lifecycle
from flows.operate.state import ServerState
from infra.errors import ProtegeError
from infra.settings import Settings

DOWN = 3  # what `service` scripts say of a program that does not run

app = typer.Typer()


@app.command(
    epilog=EXAMPLES + "PROTEGE_SERVER__DATABASE=postgresql://me:secret@host/protege protege up"
)
def up() -> None:
    """Start server, UI, worker and reports on this machine, and register all deployments.

    May be repeated: what runs stays, what is missing is started. Settings:
    PROTEGE_ROOT, and of PROTEGE_SERVER__: DATABASE, PORT, REPORTS_PORT, NOTIFY, HOME.
    """
    for line in lifecycle.up(ServerState(), lifecycle.config_of(Settings())):
        typer.echo(line)


@app.command()
def down() -> None:
    """Stop all that `up` has started; runs at work end as Crashed, and Retry goes on with them."""
    for line in lifecycle.down(ServerState()):
        typer.echo(line)


@app.command()
def status() -> None:
    """Say whether the server is up, where, and what is at work; exits with 3 if it is not up."""
    state = ServerState()
    for line in lifecycle.status(state):
        typer.echo(line)
    if not lifecycle.is_up(state):
        raise typer.Exit(DOWN)


@app.command(epilog=EXAMPLES + "protege arrived s3://bucket/pile")
def arrived(source: Annotated[str, typer.Argument(help="The source that has grown.")]) -> None:
    """Say that new images have arrived in a source: the campaigns that read it are retrained."""
    need_server()
    from flows.operate.runs import emit_arrival
    from flows.retrain.line import reads
    from infra.store import open_store
    from tasks.campaigns import campaigns, newest_first

    root = Settings().root
    known = newest_first(campaigns(open_store(root)))
    readers = [campaign.id for campaign in known if reads(campaign, source)]
    typer.echo(f"data.arrived: {emit_arrival(source)}")
    if readers:
        typer.echo(f"it is read by {readers[0]} and {len(readers) - 1} earlier campaigns")
    else:
        typer.echo(f"no finished campaign in {root} reads it: nothing is retrained", err=True)


def need_server() -> str:
    """Point Prefect to a server; returns its address. Raises ProtegeError when there is none."""
    if not lifecycle.use_running_server():
        raise ProtegeError("no server is up: `protege up` starts one, or set PREFECT_API_URL")
    return os.environ["PREFECT_API_URL"]
