"""Pipeline: from encoded images to what a network makes of them, batch by batch.

In: images, a function that decodes an image, and a function that computes a batch. Out: a `Batch`
for every `batch_size` images, in order. Threads decode the next batches, and one computes, while
the caller works on what was computed.

    for batch in run_pipeline(images, decode_one, forward, size=224, batch_size=256):
        batch.outputs_BC, batch.problems

All batches have one shape, in which an image is computed alike whatever its neighbours are: the
last batch is padded with black images, and an image that cannot be decoded is black.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.prefetch import prefetch
from tasks.images import Pixels, Unusable
from tasks.inference.decoder import Decoder, decode_each

DECODE_THREADS = 2
BATCHES_AHEAD = 1  # decoded and waiting, while one is computed and one is being decoded
RESULTS_AHEAD = 1  # computed and waiting for the caller
IMAGES_TOGETHER = 4  # decoded by a thread at once: to hand each over by itself takes more time
CHUNKS_AHEAD = 2  # a thread: encoded images can be large, so that few of them wait
LAUNCHED = 1  # batches that a GPU has been given, while the results of one before are taken
CPU = torch.device("cpu")

Item = TypeVar("Item")
# Of one item, or of several at a time.
Decode = Callable[[Item], Pixels] | Decoder[Item]
# Pixels (B, S, S, 3) on the device, of which the first `num_images` are images, others padding.
Forward = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Batch:
    """What was computed of successive images, of which the first has the row `first`.

    `outputs_BC` has a row for each image; it means nothing for those of `problems`, by row.
    `seconds` are those that its images took to "decode", by the number of threads, that its pixels
    took to "copy" to a GPU, and that the device took to "compute".
    """

    first: int
    outputs_BC: Tensor
    problems: dict[int, Unusable]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.outputs_BC)

    @property
    def rows(self) -> slice:
        """The rows of its images."""
        return slice(self.first, self.first + len(self))

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which of its images have no problem, shape (B,)."""
        rows = range(self.first, self.first + len(self))
        return np.array([row not in self.problems for row in rows])

    def part(self, rows: slice, first: int) -> "Batch":
        """Some of its images, as a batch whose first image has the row `first`."""
        share = (rows.stop - rows.start) / len(self)
        return Batch(
            first,
            self.outputs_BC[rows.start - self.first : rows.stop - self.first],
            {
                row - rows.start + first: problem
                for row, problem in self.problems.items()
                if rows.start <= row < rows.stop
            },
            {kind: seconds * share for kind, seconds in self.seconds.items()},
        )


def run_pipeline(
    items: Iterable[Item],
    decode: Decode[Item],
    forward: Forward,
    *,
    size: int,
    batch_size: int,
    decode_threads: int = DECODE_THREADS,
    device: torch.device = CPU,
    results_ahead: int = RESULTS_AHEAD,
) -> Iterator[Batch]:
    """What `forward` makes of the pixels (S, S, 3) of every item, S being `size`.

    An image is among the problems when `decode`, which runs in threads, raises Unusable for it, or
    when its outputs are not finite. So many batches are computed ahead of the caller; with none,
    the caller waits for each. Raises what `items`, `decode` and `forward` raise.
    """
    buffers = _Buffers((batch_size, size, size, 3), device)
    decoded = _decode(items, decode, buffers, decode_threads)
    computed = _compute(prefetch(decoded, BATCHES_AHEAD), forward, buffers)
    yield from prefetch(computed, results_ahead) if results_ahead else computed


class _Buffers:
    """Memory for the pixels of batches, which is used again; a GPU reads it by itself."""

    def __init__(self, shape_BHWC: tuple[int, ...], device: torch.device) -> None:
        self.shape_BHWC, self.device = shape_BHWC, device
        self._free: deque[Tensor] = deque()
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def take(self) -> Tensor:
        """Pixels that nobody uses, which may hold anything."""
        if self._free:
            return self._free.pop()
        pinned = self._copies is not None
        return torch.empty(self.shape_BHWC, dtype=torch.uint8, pin_memory=pinned)

    def give_back(self, pixels_BHWC: Tensor) -> None:
        """Let the next batch have it."""
        self._free.append(pixels_BHWC)

    def upload(self, pixels_BHWC: Tensor) -> "tuple[Tensor, _Timer]":
        """The pixels on the device, copied beside what it computes."""
        timer = _Timer(self._copies)
        if self._copies is None:
            return pixels_BHWC, timer.stop()
        with torch.cuda.stream(self._copies):
            copied_BHWC = pixels_BHWC.to(self.device, non_blocking=True)
        timer.stop()
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copies)
        copied_BHWC.record_stream(computing)
        return copied_BHWC, timer


class _Timer:
    """Seconds of work: of a stream of a GPU, which does it later, or else of this thread."""

    def __init__(self, stream: "torch.cuda.Stream | None") -> None:
        self._stream = stream
        self._began: Any = self._now()
        self._ended: Any = None

    def stop(self) -> "_Timer":
        """The work has been done, or was all given to the stream."""
        self._ended = self._now()
        return self

    @property
    def seconds(self) -> float:
        """The seconds between, when the work has been done."""
        if self._stream is None:
            return float(self._ended - self._began)
        self._ended.synchronize()
        return float(self._began.elapsed_time(self._ended)) / 1000

    def _now(self) -> Any:
        if self._stream is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event


@dataclass
class _Decoding:
    """A batch whose images are being decoded, some of them at a time."""

    pixels_BHWC: Tensor
    num_images: int = 0
    problems: dict[int, Unusable] = field(default_factory=dict)
    seconds: float = 0.0

    def decode(self, first: int, items: list[Item], decode: Decode[Item]) -> float:
        """Decode images into the places from `first` on; the seconds that it took of a core."""
        places_NHWC = self.pixels_BHWC.numpy()[first : first + len(items)]
        if isinstance(decode, Decoder):
            seconds, problems = decode.decode(items, places_NHWC)
        else:
            seconds, problems = decode_each(decode, items, places_NHWC)
        for place, problem in problems.items():
            places_NHWC[place] = 0
            self.problems[first + place] = problem
        return seconds


@dataclass(frozen=True)
class _Chunk(Generic[Item]):
    """Successive images of a batch."""

    batch: _Decoding
    first: int
    items: list[Item]


def _chunks(items: Iterable[Item], buffers: _Buffers) -> Iterator[_Chunk[Item]]:
    source, batch_size = iter(items), buffers.shape_BHWC[0]
    while True:
        batch = _Decoding(buffers.take())
        for first in range(0, batch_size, IMAGES_TOGETHER):
            found = list(islice(source, min(IMAGES_TOGETHER, batch_size - first)))
            if not found:
                return
            yield _Chunk(batch, first, found)


def _decode(
    items: Iterable[Item], decode: Decode[Item], buffers: _Buffers, threads: int
) -> Iterator[_Decoding]:
    """Batches whose images are decoded, in order."""
    pending: deque[tuple[_Chunk[Item], Future[float]]] = deque()

    def finish_oldest() -> Iterator[_Decoding]:
        chunk, future = pending.popleft()
        batch = chunk.batch
        batch.seconds += future.result() / threads
        batch.num_images += len(chunk.items)
        if not pending or pending[0][0].batch is not batch:
            batch.pixels_BHWC[batch.num_images :] = 0
            yield batch

    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for chunk in _chunks(items, buffers):
            future = pool.submit(chunk.batch.decode, chunk.first, chunk.items, decode)
            pending.append((chunk, future))
            if len(pending) > threads * CHUNKS_AHEAD:
                yield from finish_oldest()
        while pending:
            yield from finish_oldest()


@dataclass(frozen=True)
class _Computing:
    """A batch that the device computes, or has computed; its first image has the row `first`."""

    first: int
    batch: _Decoding
    outputs_BC: Tensor
    finite_B: Tensor
    timers: Mapping[str, _Timer]


def _compute(batches: Iterable[_Decoding], forward: Forward, buffers: _Buffers) -> Iterator[Batch]:
    is_gpu, first = buffers.device.type == "cuda", 0
    pending: deque[_Computing] = deque()
    for batch in batches:
        pending.append(_launch(batch, first, forward, buffers))
        first += batch.num_images
        if len(pending) > (LAUNCHED if is_gpu else 0):
            yield _result(pending.popleft(), buffers)
    for computing in pending:
        yield _result(computing, buffers)


def _launch(batch: _Decoding, first: int, forward: Forward, buffers: _Buffers) -> _Computing:
    pixels_BHWC, copying = buffers.upload(batch.pixels_BHWC)
    is_gpu = buffers.device.type == "cuda"
    computing = _Timer(torch.cuda.current_stream(buffers.device) if is_gpu else None)
    outputs_BC = forward(pixels_BHWC, batch.num_images)[: batch.num_images]
    # Now: what is asked of a GPU later is answered behind the batch that it is given next.
    finite_B = torch.isfinite(outputs_BC).flatten(1).all(dim=1).to(CPU, non_blocking=True)
    timers = {"copy": copying, "compute": computing.stop()}
    return _Computing(first, batch, outputs_BC, finite_B, timers)


def _result(computing: _Computing, buffers: _Buffers) -> Batch:
    batch, first = computing.batch, computing.first
    # This waits for a GPU.
    seconds = {kind: timer.seconds for kind, timer in computing.timers.items()}
    problems = {first + place: problem for place, problem in batch.problems.items()}
    for place in torch.nonzero(~computing.finite_B)[:, 0].tolist():
        overflow = Unusable("not_finite", "the network's outputs are not finite")
        problems.setdefault(first + place, overflow)
    buffers.give_back(batch.pixels_BHWC)
    return Batch(first, computing.outputs_BC, problems, {"decode": batch.seconds, **seconds})
