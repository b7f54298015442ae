"""Pipeline: from encoded images to what a network makes of them, batch by batch.

In: images, a function that decodes an image, and a function that computes a batch. Out: a `Batch`
for every `batch_size` images, in order. Threads decode the next batch while the network computes.

    for batch in run_pipeline(images, decode_one, forward, size=224, batch_size=256):
        batch.outputs_BC, batch.problems

All batches have one shape, in which an image is computed alike whatever its neighbours are: the
last batch is padded with black images, and an image that cannot be decoded is black.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.prefetch import map_ahead, prefetch
from tasks.images import Pixels, Unusable

DECODE_THREADS = 2
BATCHES_AHEAD = 1  # decoded and waiting, while one is computed and one is being decoded
DECODES_AHEAD = 4  # a thread: encoded images can be large, so that few of them wait

Item = TypeVar("Item")
Decode = Callable[[Item], Pixels]
# Pixels (B, S, S, 3), of which the first `num_images` are images and the others padding.
Forward = Callable[[Pixels, int], Tensor]
Lap = Callable[[str], None]


@dataclass(frozen=True)
class Batch:
    """What was computed of successive images, of which the first has the row `first`.

    `outputs_BC` has a row for each image; it means nothing for those of `problems`, by row.
    """

    first: int
    outputs_BC: Tensor
    problems: dict[int, Unusable]

    @property
    def rows(self) -> slice:
        """The rows of its images."""
        return slice(self.first, self.first + len(self.outputs_BC))

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which of its images have no problem, shape (B,)."""
        count = len(self.outputs_BC)
        return np.array([row not in self.problems for row in range(self.first, self.first + count)])


def no_lap(_kind: str) -> None:
    """The laps of those who do not measure time."""


def run_pipeline(
    items: Iterable[Item],
    decode: Decode[Item],
    forward: Forward,
    *,
    size: int,
    batch_size: int,
    decode_threads: int = DECODE_THREADS,
    lap: Lap = no_lap,
) -> Iterator[Batch]:
    """What `forward` makes of the pixels (S, S, 3) of every item, S being `size`.

    An image is among the problems when `decode`, which runs in threads, raises Unusable for it, or
    when its outputs are not finite. `lap` books the seconds of "decode" and "compute"; what the
    caller does with a batch is counted to the latter.
    """
    first = 0
    for results in _decode_batches(items, decode, batch_size, decode_threads):
        lap("decode")
        problems = {
            row: result for row, result in enumerate(results, first) if isinstance(result, Unusable)
        }
        outputs_BC = forward(_stack(results, batch_size, size), len(results))[: len(results)]
        for row in _not_finite(outputs_BC, first):
            problems.setdefault(row, Unusable("not_finite", "the network's outputs are not finite"))
        yield Batch(first, outputs_BC, problems)
        lap("compute")
        first += len(results)


def _decode_batches(
    items: Iterable[Item], decode: Decode[Item], batch_size: int, threads: int
) -> Iterator[list[Pixels | Unusable]]:
    def try_decode(item: Item) -> Pixels | Unusable:
        try:
            return decode(item)
        except Unusable as unusable:
            return unusable

    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        decoded = map_ahead(pool, try_decode, items, threads * DECODES_AHEAD)
        batches = iter(lambda: list(islice(decoded, batch_size)), [])
        yield from prefetch(batches, BATCHES_AHEAD)


def _stack(results: list[Pixels | Unusable], batch_size: int, size: int) -> Pixels:
    pixels_BHWC = np.zeros((batch_size, size, size, 3), np.uint8)
    for row, result in enumerate(results):
        if not isinstance(result, Unusable):
            pixels_BHWC[row] = result
    return pixels_BHWC


def _not_finite(outputs_BC: Tensor, first: int) -> list[int]:
    finite_B = torch.isfinite(outputs_BC).flatten(1).all(dim=1)
    rows: list[int] = (torch.nonzero(~finite_B)[:, 0] + first).tolist()
    return rows
