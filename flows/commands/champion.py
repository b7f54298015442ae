"""The command `champion`: the student that is in use, and those before it.

protege champion
protege champion --rollback
"""

from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES, Root
from infra.errors import ProtegeError, usable_root
from infra.settings import Settings
from infra.store import Store, open_store

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege champion --rollback")
def champion(
    name: Annotated[str, typer.Argument(help="Name of the champion.")] = "main",
    rollback: Annotated[bool, typer.Option(help="Go back to the champion before.")] = False,
    promote: Annotated[str, typer.Option(help="Put this campaign's student in place.")] = "",
    root: Root = "",
) -> None:
    """Show the student that is in use, with its history; go back, or put another in its place."""
    place = root or Settings().root
    with usable_root(place):
        _champion(open_store(place), name, promote=promote, rollback=rollback)


def _champion(store: Store, name: str, *, promote: str, rollback: bool) -> None:
    from flows.retrain import champion as champions

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
    last = history[-1]
    typer.echo(f"champion: {last.content['campaign']}")
    typer.echo(f"weights: {champions.student_of(store, last).uri}/weights.safetensors")
