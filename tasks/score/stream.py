"""Stream: the shards of a worker go through one pipeline, which does not stop at their ends.

In: a job and the ids of parts. Out: the receipt of each part, or what went wrong, in their order.
Threads read the next pieces of images, across the border of a shard; others decode; one computes;
one writes the parts that are complete. A shard that fails does not keep the others from being made.

    for part, made in score_parts(job, parts): ...
"""

import functools
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from infra.devices import core_count, gpu_count
from infra.logs import PLACE
from infra.prefetch import map_ahead
from tasks import tables
from tasks.contract import MadePart, Output, PartId, PartWriter, Receipt
from tasks.duplicates.prepare import Signature, prepare_image
from tasks.score.options import ScoreOptions, ScoreSpeed
from tasks.score.table import ShardScores
from tasks.shard import locate_images, piece_places, read_located, reject_images

if TYPE_CHECKING:
    from tasks.inference.decoder import Decoder
    from tasks.inference.model import Model
    from tasks.inference.pipeline import Batch

READERS = 2  # pieces that are read at the same time, and decoded one after the other
PARTS_WRITTEN = 2  # parts that wait for the store, while the next shards are computed


@dataclass(frozen=True)
class ScoreJob:
    """What every worker of this stage is given."""

    uri: str
    options: ScoreOptions
    images: Output
    teacher: Output
    embedding_bytes: int = 0
    others: tuple[Output, ...] = ()
    """Teachers whose logits are averaged with those of the first."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of a part."""
        options = self.options
        top_p = min(options.top_p, len(self.teacher.classes))
        return tables.scores(top_p, self.embedding_bytes, descriptors=options.descriptors)


def score_parts(job: ScoreJob, parts: Iterable[PartId]) -> Iterator[MadePart]:
    """Make these parts: the P best classes of every image."""
    # Imported here: it loads torch, which a run that finds everything done does not need.
    from tasks.inference.fastest import fastest
    from tasks.inference.model import load_average

    options, waiting = job.options, iter(parts)
    while (first := next(waiting, None)) is not None:
        stream = _Stream(job, itertools.chain([first], waiting))
        try:
            teacher = fastest(
                load_average((job.teacher, *job.others)),
                options.speed.compile,
                batch_size=options.batch_size,
                precision=options.precision,
                num_images=job.images.kept * (2 if options.flip else 1),
            )
            yield from stream.run(teacher)
        except Exception as error:
            # It came from the network or its device, so that nobody knows of which shard: the
            # oldest is blamed, and those that were begun behind it are begun anew.
            yield from stream.written()
            blamed, *others = [shard.part for shard in stream.shards] or [first]
            yield blamed, error
            waiting = itertools.chain(others, waiting)


class _Shard:
    """A shard in the pipeline. Its images have the rows from `first` to `end` of the stream."""

    def __init__(self, job: ScoreJob, part: PartId) -> None:
        self.part, self.writer = part, PartWriter(job.uri, part)
        self.first, self.num_rows, self.is_read = 0, 0, False
        self.error: Exception | None = None
        self.rows: pa.Table
        self.scores: ShardScores

    @property
    def end(self) -> int:
        """The row of the stream behind its images, of those that were read up to now."""
        return self.first + self.num_rows

    def add(self, batch: "Batch") -> None:
        """Take what is its own of a batch."""
        rows = slice(max(self.first, batch.first), min(self.end, batch.first + len(batch)))
        if rows.start < rows.stop:
            own = batch.part(rows, rows.start - self.first)
            self.scores.add_batch(own)
            for kind, seconds in own.seconds.items():
                self.writer.book(kind, seconds)

    def write(self, facts: Mapping[str, str]) -> Receipt:
        """Publish the part."""
        self.writer.forget_time()
        with PLACE.at(f"score shard {self.part.number}"):
            reject_images(self.writer, self.rows, self.scores.problems)
            layout = tables.scores_layout(self.scores.schema)
            return self.writer.write(self.scores.table(), facts=facts, layout=layout)


@dataclass(frozen=True)
class _Piece:
    """Images of a shard that are read at a time; the last piece of a shard has none."""

    shard: _Shard
    places: pa.Table | None = None

    def read(self) -> "tuple[_Piece, list[bytes]]":
        """The images. An error is the shard's, whose other pieces are not read any more."""
        if self.places is None or self.shard.error is not None:
            return self, []
        began = time.perf_counter()
        try:
            with PLACE.at(f"score shard {self.shard.part.number}"):
                return self, read_located(self.places)
        except Exception as error:
            self.shard.error = error
            return self, []
        finally:
            self.shard.writer.book("read", (time.perf_counter() - began) / READERS)


# An image to decode, with its shard and its row in that.
_Image = tuple[_Shard, int, bytes]


class _Stream:
    """The shards that are in the pipeline, the oldest first."""

    def __init__(self, job: ScoreJob, parts: Iterable[PartId]) -> None:
        self._job, self._parts = job, parts
        self.shards: deque[_Shard] = deque()
        self._writing: deque[tuple[PartId, Future[Receipt]]] = deque()

    def run(self, teacher: "Model") -> Iterator[MadePart]:
        """Make the parts. Raises what the network raises."""
        from tasks.inference.device_facts import device_facts

        options, facts = self._job.options, device_facts(teacher.device)
        facts["compiled"] = "yes" if teacher.compiled else "no"
        batches = teacher.run(
            self._images(),
            _decoder(self._job, teacher),
            batch_size=options.batch_size,
            precision=options.precision,
            flip=options.flip,
            features=options.embeddings or options.descriptors,
            decode_threads=_decode_threads(options.speed, teacher.device.type),
        )
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            for batch in batches:
                for shard in list(self.shards):
                    shard.add(batch)
                yield from self._write(batch.first + len(batch), pool, facts)
            # Those without an image come after the last batch, or there was none.
            yield from self._write(None, pool, facts)
            yield from self.written()

    def written(self) -> Iterator[MadePart]:
        """Wait for the parts that are being written."""
        while self._writing:
            yield self._oldest_written()

    def _write(
        self, num_rows: int | None, pool: ThreadPoolExecutor, facts: Mapping[str, str]
    ) -> Iterator[MadePart]:
        """Begin to write the shards whose images are all among the first rows of the stream."""
        while self.shards and _is_complete(self.shards[0], num_rows):
            shard = self.shards.popleft()
            if shard.error is not None:
                yield shard.part, shard.error
                continue
            self._writing.append((shard.part, pool.submit(shard.write, facts)))
            if len(self._writing) > PARTS_WRITTEN:
                yield self._oldest_written()

    def _oldest_written(self) -> MadePart:
        part, future = self._writing.popleft()
        try:
            return part, future.result()
        except Exception as error:
            return part, error

    def _images(self) -> Iterator[_Image]:
        """The images of all shards, whose pieces threads read ahead."""
        num_rows = 0
        with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
            for piece, images in map_ahead(pool, _Piece.read, self._pieces(), READERS):
                shard = piece.shard
                if not shard.num_rows:
                    shard.first = num_rows
                for image in images:
                    shard.num_rows += 1
                    num_rows += 1
                    yield shard, shard.num_rows - 1, image
                shard.is_read = piece.places is None

    def _pieces(self) -> Iterator[_Piece]:
        classes = self._job.teacher.classes
        for part in self._parts:
            shard = _Shard(self._job, part)
            self.shards.append(shard)
            try:
                shard.rows = locate_images(self._job.images, part.number, columns=("key", "tags"))
                shard.scores = ShardScores(shard.rows, classes, self._job.schema)
            except Exception as error:
                shard.error = error
            else:
                for places in piece_places(shard.rows):
                    yield _Piece(shard, places)
            yield _Piece(shard)


def _is_complete(shard: _Shard, num_rows: int | None) -> bool:
    """Whether all its images are among the first rows of the stream; None is all of them."""
    return num_rows is None or (shard.is_read and shard.end <= num_rows)


def _decoder(job: ScoreJob, teacher: "Model") -> "Decoder[_Image]":
    from tasks.inference.decoder import Decoder

    prepare = functools.partial(
        prepare_image, inputs=teacher.description.inputs, with_luma=job.options.descriptors
    )
    choice = job.options.speed.decode_processes
    in_processes = choice == "always" or (choice == "auto" and teacher.device.type != "cpu")
    return Decoder(prepare, _bytes_of, _take_signature, in_processes)


def _decode_threads(speed: ScoreSpeed, device: str) -> int:
    """How many images are decoded at a time: with a GPU, as many as its share of the cores."""
    from tasks.inference.pipeline import DECODE_THREADS

    if speed.decode_threads or device == "cpu":
        return speed.decode_threads or DECODE_THREADS
    return max(DECODE_THREADS, core_count() // max(1, gpu_count()))


def _bytes_of(image: _Image) -> bytes:
    _, _, data = image
    return data


def _take_signature(image: _Image, signature: Signature) -> None:
    shard, row, _ = image
    shard.scores.add_image(row, signature)
