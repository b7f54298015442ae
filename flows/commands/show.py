"""Commands that show what lies in a root: show, rejects, campaigns.

protege show protege-output/score/3f2a...                 what a table, a model or an output is
protege show billion-scale-1f3a0b2c-000                   a campaign: its figures and its models
protege campaigns                                         all campaigns, with their figures
protege rejects protege-output/shard/3f2a...              images that could not be used, by reason
protege rejects --recheck protege-output/shard/3f2a...    check their files once more
"""

import json
from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES, AsJson, Root
from infra.errors import usable_root
from infra.settings import Settings
from infra.store import Store, open_store

REJECTS_SHOWN = 20

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege show demo-output/store/topk/5f0c.../part-00000.parquet")
def show(
    address: Annotated[
        str,
        typer.Argument(help="Address of an output, table or model; or the name of a campaign."),
    ],
    root: Root = "",
    as_json: AsJson = False,
) -> None:
    """Say what a table, a model, a manifest or a campaign is, and where it came from."""
    from flows.commands import campaigns, describe

    with usable_root(root or Settings().root):
        found = None if "/" in address else campaigns.find_campaign(_root(root), address)
    if found is not None:
        _print(campaigns.campaign_lines(found), campaigns.campaign_content(found), as_json)
    elif as_json:
        typer.echo(json.dumps(describe.content(address), indent=1, ensure_ascii=False))
    else:
        for line in describe.describe(address):
            typer.echo(line)


@app.command("campaigns")
def list_campaigns(root: Root = "", as_json: AsJson = False) -> None:
    """List the campaigns of a root with their figures, the newest last."""
    from flows.commands import campaigns

    found = campaigns.all_campaigns(_root(root))
    contents = [campaigns.campaign_content(campaign) for campaign in found]
    _print(campaigns.list_lines(found), contents, as_json)


@app.command(epilog=EXAMPLES + "protege rejects --recheck protege-output/shard/3f2a90cc11d0ab42")
def rejects(
    output: Annotated[str, typer.Argument(help="Address of an output of shard, signature, score.")],
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Check the files of shard's rejects once more.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Name every one of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the images that could not be used and name them; or check them again, when mended.

    The next run of the same recipe takes in what can be used now.
    """
    from flows.commands.describe import readable
    from flows.commands.rejects import reject_content, reject_lines
    from tasks.contract import output_at
    from tasks.shard import recheck_rejects

    with readable(output):
        if recheck:
            images = output_at(output, "shard")
            for line in recheck_rejects(images.root, images).lines():
                typer.echo(line)
            return
        found = output_at(output, "shard", "signature", "score", "topk")
        shown = None if everything else REJECTS_SHOWN
        _print(list(reject_lines(found, shown)), reject_content(found), as_json)


def _root(root: str) -> Store:
    place = root or Settings().root
    with usable_root(place):
        store = open_store(place)
        store.sizes("campaigns")
        return store


def _print(lines: list[str], content: object, as_json: bool) -> None:
    if as_json:
        lines = [json.dumps(content, indent=1, ensure_ascii=False)]
    for line in lines:
        typer.echo(line)
