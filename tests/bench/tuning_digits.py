"""Tuning digits: data like the demo's to choose settings by, without any of its test digits.

In: a folder and a seed. Out: what `write_digits` writes, from the 4,000 digits that are not for
testing: 50 labelled, 600 to test on, the others in the pile with 6,800 badly cut cells.
"""

from pathlib import Path

import numpy as np

from flows.demo import digits

HELD_OUT_PER_CLASS = 60
BAD_CELLS = 6_800


def write_tuning_digits(folder: Path, seed: int) -> None:
    """Write the data of one seed, or leave it when it is complete."""
    if (folder / digits.DONE).exists():
        return
    cells, labels = digits.load_digits()
    split = digits.split_digits(labels, seed)
    rng = np.random.default_rng([seed, 1])
    held_out = digits.draw_per_class(labels, split.unlabelled, HELD_OUT_PER_CLASS, rng)
    pile = np.setdiff1d(split.unlabelled, held_out)
    own = digits.Split(split.labelled, held_out, pile)
    digits.write_split(folder, cells, labels, own, rng, bad_cells=BAD_CELLS)
