"""The table of networks: what they cost, and what their published weights reach.

protege models                 every network, without and with a method such as the paper's
protege models resnext         those whose name or family has this in it
protege models --json          the same for programs, with every published accuracy
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.commands.arguments import AsJson
from infra.errors import ProtegeError

app = typer.Typer()
Filter = Annotated[str, typer.Argument(help="Only those whose name or family has this in it.")]


@app.command()
def models(part: Filter = "", as_json: AsJson = False) -> None:
    """List the networks that teacher.model and student.model can be."""
    from models.registry import NETWORKS, nearest_names

    records = [
        record
        for record in NETWORKS.values()
        if part.lower() in record.name or part.lower() in record.family
    ]
    if not records:
        nearest = ", ".join(nearest_names(part)) or "no filter at all"
        raise ProtegeError(f"no model has {part!r} in its name or family; try {nearest}")
    if as_json:
        typer.echo(json.dumps({record.name: _content(record) for record in records}, indent=1))
        return
    for line in _table(records):
        typer.echo(line)


def _content(record: Any) -> dict[str, Any]:
    return {
        "family": record.family,
        "parameters": record.num_parameters,
        "gmacs": record.gmacs,
        "input_size": record.input_size,
        "inputs": {**asdict(record.inputs), "resize": record.inputs.resize},
        "published": [asdict(published) for published in record.published],
    }


def _table(records: Iterable[Any]) -> Iterator[str]:
    yield (
        f"{'model':<24}{'parameters':>12}{'GMACs':>9}{'inputs':>8}{'supervised':>14}{'method':>14}"
    )
    for record in records:
        best = record.best(supervised=False)
        yield (
            f"{record.name:<24}{record.num_parameters / 1e6:>10.2f} M{record.gmacs:>9.3f}"
            f"{record.input_size:>5} px{_accuracy(record.best(supervised=True)):>14}"
            f"{_accuracy(best):>14}  {best.method if best else ''}".rstrip()
        )
    yield "supervised, method: top-1 / top-5 in percent of weights trained on labels alone,"
    yield "and with the method named; on ImageNet, videos on Kinetics. --json has all, with sources"
    yield "timm/<name>: every network of the package timm, where it is installed"
    yield "<name>+projection: with the first layer of the head that contrastive training leaves"


def _accuracy(published: Any) -> str:
    if published is None:
        return "-"
    top5 = "-" if published.top5 is None else f"{published.top5:.1f}"
    return f"{published.top1:.1f} / {top5}"
