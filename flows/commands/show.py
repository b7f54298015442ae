"""Commands that show what lies in a root: show, rejects.

protege show protege-output/score/3f2a...                 what a table, a model or an output is
protege rejects protege-output/shard/3f2a...              images that could not be used, by reason
protege rejects --recheck protege-output/shard/3f2a...    check their files once more
"""

from typing import Annotated

import typer

from flows.commands.arguments import EXAMPLES

REJECTS_SHOWN = 20

app = typer.Typer()


@app.command(epilog=EXAMPLES + "protege show demo-output/store/topk/5f0c.../part-00000.parquet")
def show(uri: Annotated[str, typer.Argument(help="Address of an output, table or model.")]) -> None:
    """Say what a table, a model, a manifest or an output folder is, and where it came from."""
    from flows.commands.describe import describe

    for line in describe(uri):
        typer.echo(line)


@app.command(epilog=EXAMPLES + "protege rejects --recheck protege-output/shard/3f2a90cc11d0ab42")
def rejects(
    output: Annotated[str, typer.Argument(help="Address of an output of shard, signature, score.")],
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Check the files of shard's rejects once more.")
    ] = False,
) -> None:
    """List the images that could not be used; or check them again after they were mended.

    The next run of the same recipe takes in what can be used now.
    """
    from tasks.contract import output_at, reject_reasons
    from tasks.shard import recheck_rejects

    if recheck:
        images = output_at(output, "shard")
        for line in recheck_rejects(images.root, images).lines():
            typer.echo(line)
        return
    found = output_at(output, "shard", "signature", "score", "topk")
    for reason, count in reject_reasons(found).items():
        typer.echo(f"{count:,} {reason}")
    table = found.rejects(["key", "reason", "detail"])
    for row in table.slice(0, REJECTS_SHOWN).to_pylist():
        typer.echo(f"  {row['key']}: {row['reason']} ({row['detail']})")
    if len(table) > REJECTS_SHOWN:
        typer.echo(f"  and {len(table) - REJECTS_SHOWN:,} more: `protege show` names their tables")
    if not len(table):
        typer.echo("there are no rejects")
