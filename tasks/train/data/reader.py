"""Reader: the batch of a step, read and decoded.

In: a data set and the number of a step. Out: the pixels and the targets of the samples at the
positions of this step.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from infra.background import insist
from infra.errors import ProtegeError
from tasks.images import Limits, Pixels, Unusable, decode
from tasks.train.data.order import SampleOrder
from tasks.train.data.samples import Part, Samples, Targets
from tasks.train.data.views import View
from tasks.train.options import TrainOptions

MAX_ROW = 0xFFFF_FFFF  # of a shard


@dataclass(frozen=True)
class Batch:
    """The samples of one step and one virtual rank: uint8 pixels (B, S, S, 3) and their targets."""

    images_BHWC: Pixels
    targets: Targets


class BatchReader:
    """Reads the parts that a step needs and decodes its samples.

    `batch_size` is the number of samples that a step takes from this data set, over all virtual
    ranks.
    """

    def __init__(self, samples: Samples, options: TrainOptions, batch_size: int) -> None:
        self._samples, self._batch_size = samples, batch_size
        window = _parts_together(samples, options)
        self._order = SampleOrder(samples.part_rows, options.seed, window)
        inputs = options.inputs
        self._view = View(inputs.size, inputs.resize, options.augment.crop_min_area, options.seed)
        # A batch may reach from the last parts of one window into the first of the next.
        self._part = functools.lru_cache(2 * window)(self._read_part)
        self._pool = ThreadPoolExecutor(options.speed.decode_threads)
        num_bytes = sum(samples.part_rows) * inputs.size**2 * 3
        is_cached = self._view.is_fixed and num_bytes <= options.speed.cache_gib * 2**30
        self._cache: dict[tuple[int, int], Pixels] | None = {} if is_cached else None

    def read(self, step: int, rank: int, num_ranks: int) -> Batch:
        """The samples of one virtual rank in this step. Raises ProtegeError."""
        positions = self._positions(step, rank, num_ranks)
        places = [self._order.place(position) for position in positions]
        targets = Targets.stack([self._part(part).targets.take(row) for part, row in places])
        pixels = list(self._pool.map(self._pixels, places, positions))
        return Batch(np.stack(pixels), targets)

    def names(self, step: int, rank: int, num_ranks: int) -> list[str]:
        """The images of one virtual rank in this step, by id, or by place where they have none."""
        positions = self._positions(step, rank, num_ranks)
        return [self._name(self._order.place(position)) for position in positions]

    def _read_part(self, part: int) -> Part:
        work = functools.partial(self._samples.read_part, part)
        return insist(work, f"part {part} of {self._samples.uri} cannot be read")

    def _positions(self, step: int, rank: int, num_ranks: int) -> range:
        size = self._batch_size // num_ranks
        first = step * self._batch_size + rank * size
        return range(first, first + size)

    def _name(self, place: tuple[int, int]) -> str:
        part, row = place
        image_ids = self._part(part).image_ids
        if not image_ids:
            return f"part {part}, row {row}"
        return (
            f"image {image_ids[row]} (shard {image_ids[row] >> 32}, row {image_ids[row] & MAX_ROW})"
        )

    def _pixels(self, place: tuple[int, int], position: int) -> Pixels:
        if self._cache is not None and place in self._cache:
            return self._cache[place]
        part, row = place
        try:
            decoded = decode(self._part(part).images[row], Limits())
        except Unusable as unusable:
            raise ProtegeError(
                f"{self._samples.uri}: {self._name(place)} cannot be decoded for the training "
                f"({unusable}). Shard its source with verify=decode, which rejects such images"
            ) from unusable
        pixels = self._view.crop(decoded, position)
        if self._cache is not None:
            self._cache[place] = pixels
        return pixels


def _parts_together(samples: Samples, options: TrainOptions) -> int:
    """How many parts are shuffled together, and held in memory."""
    by_bytes = (options.shuffle_mib << 20) // max(1, *samples.part_bytes)
    return max(1, min(options.shuffle_shards, by_bytes))
