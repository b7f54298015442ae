"""Tables: images of the demo as a user would have them, in Parquet.

In: images as PNG, their classes, and words beside them. Out: `labelled/labelled.parquet` and the
like, with classes; `pile/pile-000.parquet`, without; `pile-truth.csv`, what the pile really holds.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_FILE = 5_000


@dataclass(frozen=True)
class Rows:
    """Images of a file, with what is known of each."""

    images: Sequence[bytes]
    labels: Sequence[str]
    keys: Sequence[str] = ()
    words: Sequence[Sequence[str]] = ()


def write_labelled(folder: Path, rows: Rows) -> None:
    """One table of images with their classes, with the name of its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"image": pa.array(rows.images, pa.binary()), "label": pa.array(rows.labels)}
    pq.write_table(pa.table(columns), folder / f"{folder.name}.parquet")


def write_pile(folder: Path, files: Iterable[Rows]) -> None:
    """The tables of the pile, without classes, and beside their folder the truth."""
    (folder / "pile").mkdir(parents=True, exist_ok=True)
    with (folder / "pile-truth.csv").open("w", newline="", encoding="utf-8") as file:
        truth = csv.writer(file, lineterminator="\n")
        truth.writerow(["key", "label"])
        for number, rows in enumerate(files):
            name = f"pile-{number:03d}.parquet"
            columns = {
                "image": pa.array(rows.images, pa.binary()),
                "key": pa.array(rows.keys),
                "tags": pa.array(rows.words, pa.list_(pa.string())),
            }
            pq.write_table(pa.table(columns), folder / "pile" / name)
            keys = (f"{name}/{key}" for key in rows.keys)
            truth.writerows(zip(keys, rows.labels, strict=True))
