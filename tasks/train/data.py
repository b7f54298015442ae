"""Data of a training job: batches in an order that is a pure function of the seed.

In: a labelled `images` output or a `lessons` output. Out: for every step, pixels and targets. The
samples form one endless stream: epoch after epoch, each in its own random order. Step s of a batch
size B takes samples s*B to (s+1)*B of it, so the position in the data is the number of the step,
and a training that goes on takes exactly the next batch.

The nested iterators, from the inside out:
1. `epoch_order` gives the (part, row) pairs of one epoch: parts in random order, rows shuffled
   within windows of a few parts, so that no more parts than that are needed at a time;
2. `Samples.batch` finds, reads and decodes the samples of a step;
3. `batches` prepares the next steps in a thread while the network works on this one.
"""

import functools
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output
from tasks.images import Limits, Pixels, Unusable, decode, random_crop, square
from tasks.shard import read_images
from tasks.train.options import TrainOptions

AHEAD = 4  # steps that are prepared while the network works


@dataclass(frozen=True)
class Batch:
    """One step of one process: uint8 (B, S, S, 3) and distributions over classes (B, C)."""

    images_BHWC: Pixels
    targets_BC: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """The samples of one part: encoded images and targets."""

    images: Sequence[bytes]
    targets_NC: npt.NDArray[np.float32]


def epoch_order(
    part_rows: Sequence[int], seed: int, epoch: int, window: int
) -> npt.NDArray[np.int64]:
    """The samples of an epoch as rows of (part, row), shape (N, 2): a pure function."""
    rng = np.random.default_rng([seed, epoch])
    parts = rng.permutation(len(part_rows))
    windows = []
    for at in range(0, len(parts), window):
        pairs = [
            np.stack([np.full(part_rows[part], part), np.arange(part_rows[part])], axis=1)
            for part in parts[at : at + window]
        ]
        windows.append(rng.permutation(np.concatenate(pairs)))
    return np.concatenate(windows)


class Samples:
    """A training set: reads the parts that a step needs and decodes its samples."""

    def __init__(self, data: Output, classes: Sequence[str], options: TrainOptions) -> None:
        self._data = data
        self._classes = {name: index for index, name in enumerate(classes)}
        self._options = options
        names = [part for part in data.body["parts"] if part["name"].startswith("part-")]
        self.part_rows = [part["kept"] for part in names]
        self._numbers = [contract.part_number(part["name"]) for part in names]
        # A batch may reach from the last parts of one window into the first of the next.
        self._part = functools.lru_cache(2 * options.shuffle_shards)(self._load)
        self._order = functools.lru_cache(2)(self._epoch_order)
        self._pool = ThreadPoolExecutor(options.speed.decode_threads)
        self._cache: dict[tuple[int, int], Pixels] | None = {} if self._cacheable() else None
        if not len(self):
            raise ProtegeError(f"{data.uri} has no images to train on")

    def __len__(self) -> int:
        return sum(self.part_rows)

    def batch(self, step: int, rank: int, world_size: int) -> Batch:
        """The samples of this process in this step."""
        size = self._options.batch_size // world_size
        first = step * self._options.batch_size + rank * size
        places = [self._place(position) for position in range(first, first + size)]
        positions = range(first, first + size)
        targets = np.stack([self._part(part).targets_NC[row] for part, row in places])
        pixels = list(self._pool.map(self._pixels, places, positions))
        return Batch(np.stack(pixels), targets)

    def _place(self, position: int) -> tuple[int, int]:
        epoch, offset = divmod(position, len(self))
        part, row = self._order(epoch)[offset]
        return int(part), int(row)

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        options = self._options
        return epoch_order(self.part_rows, options.seed, epoch, options.shuffle_shards)

    def _pixels(self, place: tuple[int, int], position: int) -> Pixels:
        if self._cache is not None and place in self._cache:
            return self._cache[place]
        part, row = place
        inputs, augment = self._options.inputs, self._options.augment
        try:
            whole = decode(self._part(part).images[row], Limits())
        except Unusable as unusable:
            raise ProtegeError(
                f"{self._data.uri}: an image to train on cannot be decoded ({unusable}). Shard its "
                "source with verify=decode, which rejects such images"
            ) from unusable
        if augment.crop_min_area < 1:
            rng = np.random.default_rng([self._options.seed, position])
            return random_crop(whole, inputs.size, augment.crop_min_area, rng)
        pixels = square(whole, inputs.size, inputs.resize)
        if self._cache is not None:
            self._cache[place] = pixels
        return pixels

    def _load(self, part: int) -> Part:
        if self._data.stage == "gather":
            return self._load_lessons(part)
        table = read_images(self._data, self._numbers[part], ["label"])
        targets_NC = np.zeros((len(table), len(self._classes)), np.float32)
        for row, label in enumerate(table["label"].to_pylist()):
            if label not in self._classes:
                raise ProtegeError(f"{self._data.uri}: {label!r} is none of the classes")
            targets_NC[row, self._classes[label]] = 1
        return Part(table["image"].to_pylist(), targets_NC)

    def _load_lessons(self, part: int) -> Part:
        name = contract.part_name(self._numbers[part])
        table = contract.read_part(self._data.store, name, tables.LESSONS)
        targets_NC = np.zeros((len(table), len(self._classes)), np.float32)
        columns = zip(table["labels"].to_pylist(), table["weights"].to_pylist(), strict=True)
        for row, (labels, weights) in enumerate(columns):
            targets_NC[row, labels] = weights
        return Part(table["image"].to_pylist(), targets_NC)

    def _cacheable(self) -> bool:
        options = self._options
        size = len(self) * options.inputs.size**2 * 3
        return options.augment.crop_min_area == 1 and size <= options.speed.cache_gib * 2**30


def batches(samples: Samples, steps: range, rank: int, world_size: int) -> Iterator[Batch]:
    """The batches of these steps, prepared a few steps ahead in a thread."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def prepare() -> None:
        for step in steps:
            try:
                item: Batch | Exception = samples.batch(step, rank, world_size)
            except Exception as error:
                # The caller, not this thread, decides what an error means.
                item = error
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.5)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or isinstance(item, Exception):
                return

    thread = threading.Thread(target=prepare, name="batches", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
