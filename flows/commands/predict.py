"""The command `predict`: the classes of images, as rows.

protege predict billion-scale-1f3a0b2c-000 photos/ > answers.csv
protege predict out/train/3f2a... s3://bucket/pile --out answers.parquet --top-k 1
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.arguments import EXAMPLES, Root
from flows.commands.named_model import ModelName, find_model
from flows.terminal import note
from infra.errors import ProtegeError
from infra.settings import Settings

if TYPE_CHECKING:
    from tasks.contract import OnProgress
    from tasks.inference.answer_files import Add

app = typer.Typer()


@app.command(
    epilog=EXAMPLES + "protege predict billion-scale-1f3a0b2c-000 photos/ > answers.csv\n  "
    "protege predict out/train/3f2a90cc s3://bucket/pile --out answers.parquet"
)
def predict(
    model: ModelName,
    paths: Annotated[
        list[str],
        typer.Argument(help="Images, folders, .tar or .parquet files, or lists; local or s3://."),
    ],
    out: Annotated[
        str, typer.Option(help="File .csv or .parquet for the rows; default: CSV, printed.")
    ] = "",
    top_k: Annotated[int, typer.Option(min=1, help="Labels of each image, best first.")] = 5,
    batch_size: Annotated[
        int, typer.Option(min=1, max=4096, help="Images that are computed at once.")
    ] = 64,
    root: Root = "",
) -> None:
    """Say which classes images show, with probabilities: a row an image, in the order of listing.

    An image that cannot be used is a row with its problem. Fails when no image can be used.
    """
    from tasks.inference.answer_files import check_ending
    from tasks.inference.answers import Tally, answers
    from tasks.inference.model import open_model
    from tasks.inference.sources import list_pictures, read_pictures
    from tasks.shard.sources import describe_passed_over

    if out:
        check_ending(out)
    opened = open_model(find_model(model, root or Settings().root).address)
    listing = list_pictures(paths)
    num_labels = min(top_k, len(opened.description.classes))
    total, tally = listing.num_images or 0, Tally()
    found = answers(
        opened, read_pictures(listing), top_k=top_k, batch_size=listing.batch_size(batch_size)
    )
    with _rows(out, num_labels) as add, _progress(out) as on_progress:
        on_progress(0, total, "")
        for answer in found:
            add(answer)
            tally.add(answer)
            on_progress(tally.images, total, "" if total else f"{tally.images:,} images")
    passed = describe_passed_over(listing.passed_over)
    note(f"{tally}" + (f"; files of other kinds, passed over: {passed}" if passed else ""))
    if tally.unusable == tally.images:
        raise ProtegeError("there was no image that could be used")


@contextmanager
def _rows(out: str, num_labels: int) -> "Iterator[Add]":
    """Where the rows go."""
    from tasks.inference.answer_files import answer_file, csv_file

    # Taken before progress is drawn, because rich puts its own stream in place of this one.
    opened = answer_file(out, num_labels) if out else csv_file(sys.stdout.buffer, num_labels)
    with opened as add:
        yield add


@contextmanager
def _progress(out: str) -> "Iterator[OnProgress]":
    """Bars on standard error, but where the rows themselves are on the screen."""
    from flows.campaign.progress import Bars
    from tasks.contract import silent

    if not out and sys.stdout.isatty():
        yield silent
        return
    with Bars() as bars:
        yield bars.watch("predict")
