"""Order: which sample stands at which position, a pure function of the seed.

The samples form one endless stream: epoch after epoch, each in its own random order. Step s of a
batch size B takes the positions s*B to (s+1)*B, so the position in the data is the number of the
step, and a training that resumes takes exactly the next batch.
"""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def epoch_order(
    part_rows: Sequence[int], seed: int, epoch: int, window: int
) -> npt.NDArray[np.int64]:
    """The samples of an epoch as (part, row), shape (N, 2).

    Parts come in random order, and rows are shuffled within windows of a few parts, so that no more
    parts than that are needed at a time.
    """
    rng = np.random.default_rng([seed, epoch])
    parts = rng.permutation(len(part_rows))
    windows = []
    for first in range(0, len(parts), window):
        pairs = [
            np.stack([np.full(part_rows[part], part), np.arange(part_rows[part])], axis=1)
            for part in parts[first : first + window]
        ]
        windows.append(rng.permutation(np.concatenate(pairs)))
    return np.concatenate(windows)


class SampleOrder:
    """The endless stream of the samples of one data set."""

    def __init__(self, part_rows: Sequence[int], seed: int, window: int) -> None:
        self._num_samples = sum(part_rows)
        # A batch may reach from one epoch into the next.
        ordered = functools.partial(epoch_order, part_rows, seed, window=window)
        self._epoch = functools.lru_cache(2)(ordered)

    def place(self, position: int) -> tuple[int, int]:
        """The part and the row of the sample at this position."""
        epoch, offset = divmod(position, self._num_samples)
        part, row = self._epoch(epoch)[offset]
        return int(part), int(row)
