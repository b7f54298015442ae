"""Reader: the batch of a step, read and decoded.

In: a data set and the number of a step. Out: the pixels and the targets of the samples at the
positions of this step.
"""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from infra.background import insist
from infra.errors import ProtegeError
from tasks.images import Pixels, Unusable
from tasks.train.data.decoded import DecodedImages
from tasks.train.data.order import SampleOrder
from tasks.train.data.part_cache import PartCache
from tasks.train.data.samples import Part, Samples, Targets, cannot_learn_from
from tasks.train.data.views import View
from tasks.train.options import TrainOptions

MAX_ROW = 0xFFFF_FFFF  # of a shard
NICENESS = 10  # of threads that decode beside a network on a CPU
ROWS_TOGETHER = 4  # decoded by a thread at once: to hand each over by itself takes more of the lock


def new_pixels(shape: tuple[int, ...]) -> Pixels:
    """Memory for pixels, which may hold anything."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True)
class Batch:
    """The samples of one step and one virtual rank: uint8 pixels (B, S, S, 3) and their targets.

    With V views of each sample, pixels are (V * B, S, S, 3): all first views, then all second ones.
    """

    images_BHWC: Pixels
    targets: Targets


class BatchReader:
    """Reads the parts that a step needs and decodes its samples.

    `batch_size` is the number of samples that a step takes from this data set, over all virtual
    ranks, and `num_views` how often each of them is cropped. `options_at` are the options of a
    step, whose views may differ. `allocate` makes the memory that the pixels of a batch are written
    into, of a given shape. With `stands_back`, images are decoded with less priority: for a network
    on the same cores, whose threads all wait for the one that a decoding thread interrupts.
    """

    def __init__(
        self,
        samples: Samples,
        options: TrainOptions,
        batch_size: int,
        *,
        num_views: int = 1,
        options_at: Callable[[int], TrainOptions] | None = None,
        allocate: Callable[[tuple[int, ...]], Pixels] = new_pixels,
        stands_back: bool = False,
    ) -> None:
        self._samples, self._batch_size = samples, batch_size
        window = _parts_together(samples, options)
        self._streams = streams_of(samples, options)
        self._order = SampleOrder(samples.part_rows, options.seed, window, self._streams)
        self._allocate, self._num_views = allocate, num_views
        self._options_at = options_at or (lambda _step: options)
        self._cache_bytes = options.speed.cache_gib * 2**30
        self._views = self._views_of(View.of(options, num_views))
        self._parts = PartCache(self._read_part)
        self._pool = ThreadPoolExecutor(
            options.speed.decode_threads, initializer=_stand_back if stands_back else None
        )

    def read(self, step: int, rank: int, num_ranks: int) -> Batch:
        """The samples of one virtual rank in this step. Raises ProtegeError."""
        return self.begin(step, rank, num_ranks)()

    def begin(self, step: int, rank: int, num_ranks: int) -> Callable[[], Batch]:
        """The same in two: threads begin to decode, and who calls the result waits for them."""
        # Crops are drawn by the position in the whole batch, whatever the streams.
        first = (step * num_ranks + rank) * (self._batch_size // num_ranks)
        places = self._places(step, rank, num_ranks)
        # Kept here: who begins another batch may make the cache forget them.
        parts = {part: self._parts[part] for part in {part for part, _ in places}}
        targets = Targets.stack([parts[part].targets.take(row) for part, row in places])
        views = self._views_at(step)
        shape_HWC = views.view.shape
        images_VBHWC = self._allocate((self._num_views, len(places), *shape_HWC))

        def fill(rows: range) -> None:
            for at in rows:
                pixels_VHWC = self._read_views(views, parts[places[at][0]], places[at], first + at)
                for view, pixels_HWC in enumerate(pixels_VHWC):
                    images_VBHWC[view, at] = pixels_HWC

        starts = range(0, len(places), ROWS_TOGETHER)
        chunks = [range(start, min(start + ROWS_TOGETHER, len(places))) for start in starts]
        filling = [self._pool.submit(fill, rows) for rows in chunks]

        def finish() -> Batch:
            for filled in filling:
                filled.result()
            return Batch(images_VBHWC.reshape(-1, *shape_HWC), targets)

        return finish

    def names(self, step: int, rank: int, num_ranks: int) -> list[str]:
        """The images of one virtual rank in this step, by id, or by place where they have none."""
        places = self._places(step, rank, num_ranks)
        return [_name(self._parts[place[0]], place) for place in places]

    def _places(self, step: int, rank: int, num_ranks: int) -> list[tuple[int, int]]:
        """The part and the row of each sample; the next window of the stream is being read then."""
        size, ranks = self._batch_size // num_ranks, num_ranks // self._streams
        stream, rank_in_stream = divmod(rank, ranks)
        first = (step * ranks + rank_in_stream) * size
        positions = range(first, first + size)
        self._parts.keep(stream, *self._order.parts(positions, stream))
        return [self._order.place(position, stream) for position in positions]

    def _views_at(self, step: int) -> "_Views":
        """The views of a step. Others forget what was decoded, which they could not be cut from."""
        view, views = View.of(self._options_at(step), self._num_views), self._views
        if view != views.view:
            # What is returned is this one, whatever another thread puts there meanwhile.
            self._views = views = self._views_of(view)
        return views

    def _views_of(self, view: View) -> "_Views":
        # No memory for decoded images, where it is known before that they do not fit.
        all_bytes = sum(self._samples.part_rows) * math.prod(view.shape)
        is_too_small = view.is_fixed and all_bytes > self._cache_bytes
        return _Views(view, DecodedImages(0.0 if is_too_small else self._cache_bytes))

    def _read_part(self, part: int) -> Part:
        work = partial(self._samples.read_part, part)
        return insist(work, f"part {part} of {self._samples.uri} cannot be read")

    def _read_views(
        self, views: "_Views", part: Part, place: tuple[int, int], position: int
    ) -> list[Pixels]:
        """The views of one sample, (S, S, 3) each."""
        known = views.decoded.get(place)
        try:
            pixels, decoded = views.view.read_again(part.images[place[1]], position, known)
        except Unusable as unusable:
            name = _name(part, place)
            raise ProtegeError(cannot_learn_from(self._samples.uri, name, unusable)) from unusable
        if decoded is not known:
            views.decoded.add(place, decoded)
        return pixels


@dataclass(frozen=True)
class _Views:
    """What is made of each image, and the decoded images that it is made from."""

    view: View
    decoded: DecodedImages


def _stand_back() -> None:
    """Give the calling thread less priority than the others of its process."""
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
    os.setpriority(os.PRIO_PROCESS, thread, niceness)  # Linux takes what is beyond 19 for 19


def _name(part: Part, place: tuple[int, int]) -> str:
    number, row = place
    if not part.image_ids:
        return f"part {number}, row {row}"
    image_id = part.image_ids[row]
    return f"image {image_id} (shard {image_id >> 32}, row {image_id & MAX_ROW})"


def streams_of(samples: Samples, options: TrainOptions) -> int:
    """The streams of a data set: as many as the options say, but each has a part at least."""
    parts = sum(rows > 0 for rows in samples.part_rows)
    counts = range(1, options.streams + 1)
    return max(count for count in counts if options.streams % count == 0 and count <= max(1, parts))


def _parts_together(samples: Samples, options: TrainOptions) -> int:
    """How many parts are shuffled together, and held in memory."""
    by_bytes = (options.shuffle_mib << 20) // max(1, *samples.part_bytes)
    return max(1, min(options.shuffle_shards, by_bytes))
