"""Shards: runs one job over many shards, and does nothing twice.

In: a folder, the ids of its parts, and a job that makes one. Out: the receipts of all parts, in
order. The folder is listed once; parts that exist only have their footers read. A part that was
made from another content than its id says is made anew. This is the only resume there is.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from infra.errors import describe_error
from infra.executors import Executor, Failures, Inline, too_many
from infra.logs import PLACE, one_line
from infra.store import Store, open_store
from tasks.contract.manifest import Output, retract
from tasks.contract.parts import PartId, Receipt, is_torn, part_name, part_number, read_receipt
from tasks.contract.progress import OnProgress, slowest
from tasks.contract.stage import Made, Session, Target, make_output

MAX_BATCH = 100  # shards in a future: 0.05 ms of overhead a shard instead of 2.4 ms
BATCHES_PER_WORKER = 4
FEW_FOOTERS = 1_000

MakePart = Callable[[PartId], Receipt]
ReadReceipt = Callable[[Store, str], Receipt]


@dataclass(frozen=True)
class _Batch:
    uri: str
    parts: tuple[PartId, ...]
    present: frozenset[int]


@dataclass(frozen=True)
class _Done:
    """What became of a batch: a failed shard does not keep the others from being made."""

    receipts: list[Receipt]
    errors: list[Exception]


@dataclass(frozen=True)
class _RunBatch:
    """The work of one future: make the missing parts of a batch, read the others' footers."""

    make: MakePart
    name: Callable[[int], str]
    noun: str
    read: ReadReceipt

    def __call__(self, batch: _Batch) -> _Done:
        store, done = open_store(batch.uri), _Done([], [])
        stage = batch.uri.rsplit("/", 2)[-2]
        for part in batch.parts:
            place = f"{stage} {self.noun} {part.number}"
            try:
                with PLACE.at(place):
                    found = self._found(store, part) if part.number in batch.present else None
                    done.receipts.append(found or self.make(part))
            except Exception as error:
                done.errors.append(error)
                logging.getLogger(__name__).error(
                    "%s failed: %s", place, one_line(describe_error(error))
                )
                if too_many(len(done.errors), len(done.errors)):
                    break
        return done

    def describe(self, batch: _Batch) -> str:
        """What an error calls the work on this batch: `score shards 3 to 7`."""
        stage, first, last = batch.uri.rsplit("/", 2)[-2], batch.parts[0], batch.parts[-1]
        if first == last:
            return f"{stage} {self.noun} {first.number}"
        return f"{stage} {self.noun}s {first.number} to {last.number}"

    def _found(self, store: Store, part: PartId) -> Receipt | None:
        """The receipt of a part that is there; one that cannot be used is deleted."""
        name = self.name(part.number)
        try:
            receipt = self.read(store, name)
        except (pa.ArrowInvalid, OSError) as error:
            # A part that was torn after it was published (a lost disk block) is made again.
            if not is_torn(error):
                raise
        else:
            if receipt.made_from == part.made_from:
                return receipt
        retract(store, {name})
        store.delete(name)
        return None


def run_shards(
    store: Store,
    parts: Iterable[PartId],
    make: MakePart,
    executor: Executor,
    on_progress: OnProgress,
    name: Callable[[int], str] = part_name,
    noun: str = "shard",
    read: ReadReceipt = read_receipt,
) -> list[Receipt]:
    """Make the missing parts and return all receipts, in the order of the parts.

    `noun` is what the log calls the work of one, `read` how the receipt of one is read that is
    there. Raises `Failures` when everything else is done and
    some parts could not be made.
    """
    parts = list(parts)
    listing = store.sizes()
    present = frozenset(part.number for part in parts if name(part.number) in listing)
    if len(present) == len(parts) <= FEW_FOOTERS:
        # So few footers are read faster than a cluster starts.
        executor = Inline()
    # What is made again may come out as another part than the one that a manifest speaks of.
    retract(store, {name(part.number) for part in parts if part.number not in present})
    batches = _batches(store.uri, parts, present, executor)
    receipts: list[Receipt] = []
    seconds: dict[str, float] = {}
    on_progress(0, len(parts), f"{len(present)} were already there" if present else "")
    errors: list[Exception] = []
    for done in executor.run(_RunBatch(make, name, noun, read), batches):
        receipts.extend(done.receipts)
        errors.extend(done.errors)
        for receipt in done.receipts:
            for kind, value in receipt.seconds.items():
                seconds[kind] = seconds.get(kind, 0.0) + value
        on_progress(len(receipts), len(parts), slowest(seconds))
        if too_many(len(errors), len(receipts) + len(errors)):
            break
    if errors:
        tried = len(receipts) + len(errors)
        raise Failures(errors, tried, given_up=tried < len(parts))
    # Not by their names: with six digits, part 100,000 would come before part 10,001.
    places = {name(part.number): place for place, part in enumerate(parts)}
    return sorted(receipts, key=lambda receipt: places[receipt.name])


def snapshot_manifest(images: Output) -> str:
    """The manifest for one snapshot of the images; there are several, over the same parts."""
    return f"manifest-{images.digest}.json"


def part_ids(images: Output) -> list[PartId]:
    """The parts of a map stage over these images: a part for every shard, made from that alone."""
    parts = images.body["parts"]
    return [PartId(part_number(part["name"]), part["digest"]) for part in parts]


def map_images(
    target: Target,
    images: Output,
    make_part: MakePart,
    executor: Executor,
    on_progress: OnProgress,
    extra: Mapping[str, Any] | None = None,
) -> Output:
    """The output of a map stage: a part for every shard of the images, made from that shard alone.

    Each snapshot of the images has a manifest of its own, side by side over the same parts.
    """

    def make(session: Session) -> Made:
        ids = part_ids(images)
        parts = run_shards(session.store, ids, make_part, executor, session.on_progress)
        return Made(parts, extra or {})

    return make_output(replace(target, manifest=snapshot_manifest(images)), make, on_progress)


def _batches(
    uri: str, parts: Sequence[PartId], present: frozenset[int], executor: Executor
) -> list[_Batch]:
    size = min(MAX_BATCH, -(-len(parts) // (executor.workers * BATCHES_PER_WORKER)) or 1)
    groups = (tuple(parts[at : at + size]) for at in range(0, len(parts), size))
    return [
        _Batch(uri, group, present.intersection(part.number for part in group)) for group in groups
    ]
