"""Tags: words beside the digits of the demo, as people put them beside pictures: some, and wrong.

In: the folder of a seed. Out, beside the digits of demo/digits.py:

    pile-tagged.csv        the pile as a list, with the words beside each cell
    tags.csv               which word means which digit
    pile-tagged-truth.csv  what the pile really holds; only ever read to report the precision

The words are made up. A digit has its name in one of three languages: of zeros 7 in 10, of each
next digit fewer, of nines 1 in 4. One name in ten is that of another digit. Of badly cut cells, 1
in 5 has the name of some digit. Words that say nothing lie beside every third cell.
"""

import csv
from pathlib import Path

import numpy as np

from flows.demo.digits import DONE
from flows.demo.words import Words

NAMES = {
    "0": ("zero", "null", "zéro"),
    "1": ("one", "eins", "un"),
    "2": ("two", "zwei", "deux"),
    "3": ("three", "drei", "trois"),
    "4": ("four", "vier", "quatre"),
    "5": ("five", "fünf", "cinq"),
    "6": ("six", "sechs"),
    "7": ("seven", "sieben", "sept"),
    "8": ("eight", "acht", "huit"),
    "9": ("nine", "neun", "neuf"),
}
NAMED_SHARES = np.linspace(0.7, 0.25, len(NAMES)).tolist()
WORDS = Words(
    NAMES,
    named_shares=dict(zip(NAMES, NAMED_SHARES, strict=True)),
    others=("ink", "scan", "handwriting", "number", "old", "paper"),
    unknown_share=0.2,
)
TAGGED = "pile-tagged.csv"


def write_tags(folder: Path, seed: int) -> None:
    """Write the words of one seed, or leave them when they are complete."""
    if not (folder / DONE).exists() or (folder / TAGGED).exists():
        return
    rng = np.random.default_rng([seed, 2])
    with (folder / "pile-truth.csv").open(encoding="utf-8") as file:
        truth = [(f"pile/{row['key']}", row["label"]) for row in csv.DictReader(file)]
    _write(folder / "pile-tagged-truth.csv", "key,label", [",".join(row) for row in truth])
    (folder / "tags.csv").write_text(WORDS.table(), encoding="utf-8")
    rows = [f'{key},"{", ".join(WORDS.beside(label, rng))}"' for key, label in truth]
    # The list is the last one, so that it is there only when the others are.
    _write(folder / TAGGED, "uri,tags", rows)


def _write(path: Path, head: str, rows: list[str]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    partial.replace(path)
