"""Batches: the work of one future, a few shards that one worker makes one after the other.

In: ids of parts, and a function that makes parts. Out: what became of each. A part is looked for
just before it is made: meanwhile somebody may have made it, and a worker that has died has left
some. The first batches are small; the seconds that they take say how large the next ones are.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from infra.careful import carefully
from infra.errors import describe_error
from infra.executors import too_many
from infra.logs import PLACE, one_line
from infra.store import Store, open_store
from tasks.contract.manifest import retract
from tasks.contract.parts import PartId, Receipt, is_torn, part_name, read_receipt

MAX_BATCH = 100  # shards in a future: 0.05 ms of overhead a shard instead of 2.4 ms
FIRST_BATCH = 4
BATCHES_PER_WORKER = 4  # at least, so that no worker is left alone with the last one
BATCH_SECONDS = 30.0  # what is lost when a worker dies, and how long progress stands still

MakePart = Callable[[PartId], Receipt]
MadePart = tuple[PartId, Receipt | Exception]
MakeParts = Callable[[Iterable[PartId]], Iterator[MadePart]]
ReadReceipt = Callable[[Store, str], Receipt]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OneByOne:
    """Makes parts one after the other; one that fails does not keep the others from being made."""

    make: MakePart
    place: str  # what the log calls them, before their number

    def __call__(self, parts: Iterable[PartId]) -> Iterator[MadePart]:
        for part in parts:
            try:
                with PLACE.at(f"{self.place} {part.number}"):
                    made = self.make(part)
            except Exception as error:
                yield part, error
            else:
                yield part, made


@dataclass(frozen=True)
class Batch:
    """Parts for one worker. `is_suspect` says that a worker has died of them."""

    uri: str
    parts: tuple[PartId, ...]
    is_suspect: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a batch, and the seconds that it took to make a part."""

    receipts: list[Receipt]
    errors: list[Exception]
    seconds_per_part: float


@dataclass(frozen=True)
class RunBatch:
    """The work of one future: make the missing parts of a batch, read the others' footers."""

    make: MakeParts
    name: Callable[[int], str] = part_name
    noun: str = "shard"
    read: ReadReceipt = read_receipt

    def __call__(self, batch: Batch) -> Done:
        began, num_made = time.monotonic(), 0
        receipts, errors = list[Receipt](), list[Exception]()
        missing = self._missing(batch, receipts, errors)
        with carefully(batch.is_suspect):
            for part, made in self.make(missing):
                num_made += 1
                if isinstance(made, Receipt):
                    receipts.append(made)
                else:
                    self._note(batch, part, made, errors)
                if too_many(len(errors), len(errors)):
                    break
        return Done(receipts, errors, (time.monotonic() - began) / max(num_made, 1))

    def describe(self, batch: Batch) -> str:
        """What an error calls the work on this batch: `score shards 3 to 7`."""
        stage, first, last = stage_of(batch.uri), batch.parts[0], batch.parts[-1]
        if first == last:
            return f"{stage} {self.noun} {first.number}"
        return f"{stage} {self.noun}s {first.number} to {last.number}"

    def split(self, batch: Batch) -> Sequence[Batch]:
        """What to do with a batch of which a worker has died; nothing when it was warned.

        The first part that is missing is the suspect; the others are a batch by themselves.
        """
        if batch.is_suspect:
            return ()
        listing = open_store(batch.uri).sizes()
        missing = [part for part in batch.parts if self.name(part.number) not in listing]
        present = [part for part in batch.parts if part not in missing]
        suspects, others = missing[:1], [*present, *missing[1:]]
        return [
            *(replace(batch, parts=(part,), is_suspect=True) for part in suspects),
            *([replace(batch, parts=tuple(others))] if others else []),
        ]

    def _missing(
        self, batch: Batch, receipts: list[Receipt], errors: list[Exception]
    ) -> Iterator[PartId]:
        """The parts that have to be made; the receipts of the others are noted."""
        store = open_store(batch.uri)
        for part in batch.parts:
            try:
                found = self._find(store, part)
            except Exception as error:
                self._note(batch, part, error, errors)
                continue
            if found is None:
                yield part
            else:
                receipts.append(found)

    def _find(self, store: Store, part: PartId) -> Receipt | None:
        """The receipt of a part that is there; one that cannot be used is deleted."""
        name = self.name(part.number)
        try:
            receipt = self.read(store, name)
        except FileNotFoundError:
            return None
        except (pa.ArrowInvalid, OSError) as error:
            # A part that was torn after it was published (a lost disk block) is made again.
            if not is_torn(error):
                raise
        else:
            if receipt.made_from == part.made_from:
                return receipt
        retract(store, {name}, store.sizes())
        store.delete(name)
        return None

    def _note(self, batch: Batch, part: PartId, error: Exception, errors: list[Exception]) -> None:
        errors.append(error)
        place = f"{stage_of(batch.uri)} {self.noun} {part.number}"
        with PLACE.at(place):
            logger.error("%s failed: %s", place, one_line(describe_error(error)))


class Batches:
    """The batches of some parts, cut when a worker is free for the next one."""

    def __init__(self, uri: str, parts: Sequence[PartId], workers: int) -> None:
        self._uri, self._parts, self._workers = uri, parts, workers
        self._size = FIRST_BATCH

    def __iter__(self) -> Iterator[Batch]:
        first = 0
        while first < len(self._parts):
            left = len(self._parts) - first
            size = min(self._size, -(-left // (self._workers * BATCHES_PER_WORKER)))
            yield Batch(self._uri, tuple(self._parts[first : first + size]))
            first += size

    def learn(self, done: Done) -> None:
        """Let the next batches take about BATCH_SECONDS."""
        fitting = BATCH_SECONDS / max(done.seconds_per_part, BATCH_SECONDS / MAX_BATCH)
        self._size = max(1, min(int(fitting), MAX_BATCH))


def stage_of(uri: str) -> str:
    """The stage of an output, by its folder."""
    return uri.rsplit("/", 2)[-2]
