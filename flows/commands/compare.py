"""The command compare: finished campaigns side by side.

protege compare billion-scale-1f3a0b2c-000 noisy-student-9c41d0aa-000
protege compare billion-scale-1f3a... billion-scale-77e0... --html compared.html   with pictures
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.arguments import EXAMPLES, AsJson, Root
from infra.errors import ProtegeError, usable_root
from infra.settings import Settings
from infra.store import open_store

if TYPE_CHECKING:
    from flows.campaign.compare import Comparison
    from tasks.compare_page import Row

SHOWN = 40  # pictures of a page, unless somebody wants more

app = typer.Typer()


@app.command(
    epilog=EXAMPLES + "protege compare billion-scale-1f3a0b2c-000 noisy-student-9c41d0aa-000"
)
def compare(
    names: Annotated[list[str], typer.Argument(metavar="CAMPAIGN...", help="Two or more.")],
    root: Root = "",
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures of the disagreements.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, max=1_000, help="Pictures on it.")] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """Put finished campaigns side by side: options that differ, figures, and disagreements."""
    from flows.campaign.compare import compare as compare_campaigns
    from tasks.campaigns import find

    if len(set(names)) < 2:
        raise ProtegeError("give two campaigns or more: `protege campaigns` lists them")
    place = root or Settings().root
    store = open_store(place)
    with usable_root(place):
        found = {name: find(store, name) for name in names}
    missing = [name for name, campaign in found.items() if campaign is None]
    if missing:
        raise ProtegeError(
            f"{store.uri} has no campaign {missing[0]!r}: `protege campaigns` lists them"
        )
    comparison = compare_campaigns(store, [one for one in found.values() if one is not None])
    if as_json:
        typer.echo(json.dumps(_content(comparison), indent=1, ensure_ascii=False))
    else:
        _show(comparison)
    if html is not None:
        _write(comparison, html, pictures)
        typer.echo(html, err=as_json)


def _content(comparison: "Comparison") -> dict[str, Any]:
    names = [campaign.id for campaign in comparison.campaigns]

    def by_campaign(rows: "tuple[Row, ...]") -> dict[str, dict[str, str]]:
        return {row.name: dict(zip(names, row.texts, strict=True)) for row in rows}

    return {
        "campaigns": names,
        "options": by_campaign(comparison.options),
        "figures": by_campaign(comparison.figures),
        "same_test_images": comparison.images is not None,
        "disagreements": len(comparison.disagreements),
    }


def _show(comparison: "Comparison") -> None:
    console = Console(markup=False)
    names = [campaign.id for campaign in comparison.campaigns]
    tables = {"Options that differ": comparison.options, "Figures": comparison.figures}
    for title, rows in tables.items():
        table = Table("", *names, title=title)
        for row in rows:
            table.add_row(row.name, *row.texts)
        console.print(table)
    console.print(_disagreement(comparison), soft_wrap=True, highlight=False)


def _disagreement(comparison: "Comparison") -> str:
    if comparison.images is None:
        return "they were not tested on the same images, so their answers are not compared"
    count = len(comparison.disagreements)
    return (
        f"of {comparison.images.kept:,} test images, {count:,} are known by some results and not "
        "by others; --html compared.html shows them"
    )


def _write(comparison: "Comparison", html: Path, pictures: int) -> None:
    from tasks.compare_page import compare_html

    names = [campaign.id for campaign in comparison.campaigns]
    tables = {"Figures": comparison.figures, "Options that differ": comparison.options}
    shown = comparison.disagreements[:pictures]
    page = compare_html(names, tables, comparison.images, shown)
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ProtegeError(f"{html} cannot be written: {error.strerror}") from None
