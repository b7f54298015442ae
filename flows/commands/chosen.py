"""The command `chosen`: which files were chosen for each class, as CSV.

protege chosen billion-scale-1f3a0b2c-000 > chosen.csv    of a campaign, the last choice
protege chosen protege-output/topk/5f0c... > chosen.csv   of an output of topk
"""

import sys
from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES, Root
from infra.errors import ProtegeError, usable_root
from infra.settings import Settings
from infra.store import open_store
from tasks.contract import Output

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege chosen billion-scale-1f3a0b2c-000 > chosen.csv")
def chosen(
    address: Annotated[
        str, typer.Argument(help="Name of a campaign, or address of an output of topk.")
    ],
    root: Root = "",
) -> None:
    """Print the chosen files as CSV: class, rank, name, log-odds, repeats."""
    from pyarrow import csv

    from flows.commands.describe import readable
    from tasks.chosen_files import chosen_files

    with readable(address):
        table = chosen_files(_choice(address, root or Settings().root))
    csv.write_csv(table, sys.stdout.buffer)


def _choice(address: str, root: str) -> Output:
    """The output of topk; of a campaign, the one that its result learned from."""
    from flows.commands.campaigns import find_campaign
    from tasks.contract import output_at

    found = None
    if "/" not in address:
        with usable_root(root):
            found = find_campaign(open_store(root), address)
    if found is None:
        return output_at(address, "topk")
    choices = [output for output in found.outputs.values() if output.stage == "topk"]
    if not choices:
        raise ProtegeError(f"{address} has chosen no images, or not yet")
    return choices[-1]
