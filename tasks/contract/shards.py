"""Shards: runs one job over many shards, and does nothing twice.

In: a folder, the ids of its parts, and a job that makes one. Out: the receipts of all parts, in
order. The folder is listed once; parts that exist only have their footers read. A part that was
made from another content than its id says is made anew. This is the only resume there is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from infra.executors import Executor, Failures, Inline, too_many
from infra.store import Store
from tasks.contract.batches import (
    Batches,
    MakePart,
    MakeParts,
    OneByOne,
    ReadReceipt,
    RunBatch,
    stage_of,
)
from tasks.contract.manifest import Output, retract
from tasks.contract.parts import PartId, Receipt, part_name, part_number, read_receipt
from tasks.contract.progress import OnProgress, Pace
from tasks.contract.stage import Made, Session, Target, make_output

FEW_FOOTERS = 1_000


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
    there. Raises `Failures` when everything else is done and some parts could not be made.
    """
    one_by_one = OneByOne(make, f"{stage_of(store.uri)} {noun}")
    return _run(store, parts, RunBatch(one_by_one, name, noun, read), executor, on_progress)


def _run(
    store: Store,
    parts: Iterable[PartId],
    run_batch: RunBatch,
    executor: Executor,
    on_progress: OnProgress,
) -> list[Receipt]:
    parts, name = list(parts), run_batch.name
    listing = store.sizes()
    present = frozenset(part.number for part in parts if name(part.number) in listing)
    if len(present) == len(parts) <= FEW_FOOTERS:
        # So few footers are read faster than a cluster starts.
        executor = Inline()
    # What is made again may come out as another part than the one that a manifest speaks of.
    absent = {name(part.number) for part in parts if part.number not in present}
    retract(store, absent, listing)
    batches = Batches(store.uri, parts, executor.workers)
    receipts: list[Receipt] = []
    pace = Pace(executor.workers)
    on_progress(0, len(parts), f"{len(present)} were already there" if present else "")
    errors: list[Exception] = []
    for done in executor.run(run_batch, batches):
        batches.learn(done)
        receipts.extend(done.receipts)
        errors.extend(done.errors)
        for receipt in done.receipts:
            pace.add(receipt.rows_in, receipt.seconds)
        on_progress(len(receipts), len(parts), str(pace))
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
    make: MakeParts,
    executor: Executor,
    on_progress: OnProgress,
    extra: Mapping[str, Any] | None = None,
) -> Output:
    """The output of a map stage: a part for every shard of the images, made from that shard alone.

    Each snapshot of the images has a manifest of its own, side by side over the same parts.
    """

    def make_all(session: Session) -> Made:
        ids = part_ids(images)
        parts = _run(session.store, ids, RunBatch(make), executor, session.on_progress)
        return Made(parts, extra or {})

    snapshot = replace(target, manifest=snapshot_manifest(images))
    return make_output(snapshot, make_all, on_progress)
