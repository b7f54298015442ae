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
OTHERS = ("ink", "scan", "handwriting", "number", "old", "paper")
NAMED_SHARES = np.linspace(0.7, 0.25, len(NAMES))
WRONG_SHARE, NAMED_BAD_SHARE, OTHER_SHARE = 0.1, 0.2, 1 / 3
TAGGED = "pile-tagged.csv"


def write_tags(folder: Path, seed: int) -> None:
    """Write the words of one seed, or leave them when they are complete."""
    if not (folder / DONE).exists() or (folder / TAGGED).exists():
        return
    rng = np.random.default_rng([seed, 2])
    with (folder / "pile-truth.csv").open(encoding="utf-8") as file:
        truth = [(f"pile/{row['key']}", row["label"]) for row in csv.DictReader(file)]
    _write(folder / "pile-tagged-truth.csv", "key,label", [",".join(row) for row in truth])
    pairs = [f"{name},{digit}" for digit, names in NAMES.items() for name in names]
    _write(folder / "tags.csv", "tag,class", pairs)
    rows = [f'{key},"{", ".join(_words(label, rng))}"' for key, label in truth]
    # The list is the last one, so that it is there only when the others are.
    _write(folder / TAGGED, "uri,tags", rows)


def _words(label: str, rng: np.random.Generator) -> list[str]:
    """The words beside one cell."""
    digits, words = list(NAMES), []
    share = NAMED_SHARES[digits.index(label)] if label in NAMES else NAMED_BAD_SHARE
    if rng.random() < share:
        is_known = label in NAMES and rng.random() >= WRONG_SHARE
        digit = label if is_known else digits[rng.integers(len(digits))]
        words.append(str(rng.choice(NAMES[digit])))
    if rng.random() < OTHER_SHARE:
        words.append(str(rng.choice(OTHERS)))
    return words


def _write(path: Path, head: str, rows: list[str]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    partial.replace(path)
