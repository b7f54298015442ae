"""Order: which sample stands at which position, a pure function of the seed.

In: the rows of each part, a seed, the parts of a window, and the number of streams. Out: the part
and the row of a position.

The parts of an epoch are put in random order and dealt out to the streams, each of which one
process reads alone. A stream is endless: epoch after epoch, its parts in windows of a few, whose
rows are shuffled together. Step s of a batch takes the next positions of every stream, so the
position in the data is the number of the step, and a training that resumes takes exactly the next
batch. Nothing of the size of the data set is in memory: a window is ordered when it is reached.

    order = SampleOrder(part_rows, seed=0, window=4, num_streams=2)
    part, row = order.place(position=1_000, stream=1)
"""

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDERED_WINDOWS = 3  # a batch may reach from one window into the next; one more costs little


@dataclass(frozen=True)
class Window:
    """Parts that are in memory together; their place is its seed."""

    epoch: int
    number: int
    parts: tuple[int, ...]


class SampleOrder:
    """The endless streams of the samples of one data set."""

    def __init__(
        self, part_rows: Sequence[int], seed: int, window: int, num_streams: int = 1
    ) -> None:
        self._streams = [
            _Stream(part_rows, seed, window, stream, num_streams) for stream in range(num_streams)
        ]

    def place(self, position: int, stream: int = 0) -> tuple[int, int]:
        """The part and the row of the sample at this position of a stream."""
        part, row = self._streams[stream].place(position)
        return int(part), int(row)

    def parts(self, positions: range, stream: int = 0) -> tuple[list[int], list[int]]:
        """The parts of the windows of these positions, and those of the window after them."""
        return self._streams[stream].parts(positions)


class _Stream:
    """Windows one after the other, which are listed as far as somebody has asked."""

    def __init__(
        self, part_rows: Sequence[int], seed: int, window: int, stream: int, num_streams: int
    ) -> None:
        self._part_rows, self._seed, self._window = part_rows, seed, window
        self._stream, self._num_streams = stream, num_streams
        self._windows: list[Window] = []
        self._ends: list[int] = []  # positions behind the last row of each window
        self._epochs = 0
        self._order = functools.lru_cache(ORDERED_WINDOWS)(self._ordered)

    def place(self, position: int) -> npt.NDArray[np.int64]:
        """The part and the row at a position, shape (2,)."""
        index = self._index(position)
        begin = self._ends[index - 1] if index else 0
        place: npt.NDArray[np.int64] = self._order(index)[position - begin]
        return place

    def parts(self, positions: range) -> tuple[list[int], list[int]]:
        """The parts of the windows of these positions, and those of the window after them."""
        first, last = self._index(positions[0]), self._index(positions[-1])
        self._index(self._ends[last])
        now = [part for window in self._windows[first : last + 1] for part in window.parts]
        return now, list(self._windows[last + 1].parts)

    def _index(self, position: int) -> int:
        """The number of the window of a position."""
        while not self._ends or self._ends[-1] <= position:
            self._list_epoch()
        return bisect.bisect_right(self._ends, position)

    def _list_epoch(self) -> None:
        epoch = self._epochs
        parts = self._rng(epoch).permutation(len(self._part_rows))
        own = [int(part) for part in parts[self._stream :: self._num_streams]]
        end = self._ends[-1] if self._ends else 0
        for number, first in enumerate(range(0, len(own), self._window)):
            window = Window(epoch, number, tuple(own[first : first + self._window]))
            rows = sum(self._part_rows[part] for part in window.parts)
            if rows:
                end += rows
                self._windows.append(window)
                self._ends.append(end)
        self._epochs += 1

    def _ordered(self, index: int) -> npt.NDArray[np.int64]:
        """(part, row) of every sample of a window, shuffled, shape (N, 2)."""
        window = self._windows[index]
        pairs_N2 = np.concatenate(
            [
                np.stack(
                    [np.full(self._part_rows[part], part), np.arange(self._part_rows[part])], 1
                )
                for part in window.parts
            ]
        )
        rng = self._rng(window.epoch)
        if self._stream or window.number:
            rng = np.random.default_rng([self._seed, window.epoch, self._stream, window.number])
        else:
            # The first window goes on with the numbers that have ordered the parts.
            rng.permutation(len(self._part_rows))
        shuffled_N2: npt.NDArray[np.int64] = rng.permutation(pairs_N2)
        return shuffled_N2

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, epoch])
