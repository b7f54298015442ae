"""Pins: which file is which row of which shard, once and for all.

In: a source and the root of the outputs. Out: a `Snapshot`, and tables `pins/00000.parquet`, one
for each time that the source had grown: the first listing assigns every file a shard and a row,
later ones assign only what is new, to later shards. No place is ever assigned twice. A rejected
file may get another attempt (recheck.py): another place, which is then the one that counts.

    snapshot = pin(root, ShardOptions(source="photos/"))
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import PartDraft, PartId, RowCounts, Target
from tasks.images import IMAGES_VERSION
from tasks.pieces import pieces
from tasks.shard.changes import Pinned, check_unchanged
from tasks.shard.options import ShardOptions
from tasks.shard.passed import as_facts
from tasks.shard.sources import Listing, SourceFile, is_container_name

STAGE = "shard"
VERSION = 6
GROUP_ROWS = 1_000  # of 100,000 tars, who makes a shard reads 50 kB of pins, not 5 MB
PINNED = [
    "key",
    "shard",
    "version",
    "label",
    "tags",
    "recheck_of",
]  # what a new listing is compared with

PinnedFiles = Mapping[str, Pinned]  # by their keys


@dataclass(frozen=True)
class Snapshot:
    """A source as it was pinned at one time: the pins of all its increments."""

    fingerprint: str
    digest: str
    increments: tuple[str, ...]

    @property
    def manifest(self) -> str:
        """The manifest of the images of this snapshot."""
        return f"manifest-{self.digest}.json"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A file that gets a place: for the first time, or after it was rejected at another."""

    file: SourceFile
    recheck_of: int | None = None
    reason: str | None = None


def pin(root: Store, options: ShardOptions, listing: Listing | None = None) -> Snapshot:
    """Assign what is new in the source to new shards. Raises ProtegeError.

    Who has just listed it hands the listing over, for that takes long.
    """
    files = options.list_files() if listing is None else listing
    target = images_target(root, options)
    store = target.store
    while True:
        names, pins = read_pins(store)
        known = known_files(pins)
        check_unchanged(files, known, store, labelled=options.labelled)
        fresh = [Attempt(file) for file in files if file.key not in known]
        if not fresh:
            digests = [contract.read_receipt(store, name).digest for name in names]
            digest = contract.digest_of(digests)
            return Snapshot(target.fingerprint, digest, names)
        # Whoever loses the race for its name finds the winner's pins in the next round.
        add_pins(store, pins, fresh, options, files.passed_over)


def images_target(root: Store, options: ShardOptions) -> Target:
    """The images of a source before they exist; every snapshot of it has a manifest there."""
    # A source is known by its address, however it was typed.
    resolved = options.model_copy(update={"source": open_store(options.source).uri})
    content = {"images_version": IMAGES_VERSION}
    return Target(root, STAGE, VERSION, resolved, content=content, source=resolved.source)


def read_pins(store: Store) -> tuple[tuple[str, ...], list[pa.Table]]:
    """The names of all increments, and what a listing is compared with. Raises ProtegeError."""
    names = _increments(store)
    return names, [_read_increment(store, number, name) for number, name in enumerate(names)]


def known_files(pins: Iterable[pa.Table]) -> PinnedFiles:
    """Every pinned file as it was at its latest attempt, by its key."""
    found: dict[str, Pinned] = {}
    for table in pins:
        columns = [table[name].to_pylist() for name in ("key", "version", "label", "shard", "tags")]
        found |= {key: Pinned(*values) for key, *values in zip(*columns)}
    return found


def add_pins(
    store: Store,
    pins: Sequence[pa.Table],
    attempts: Sequence[Attempt],
    options: ShardOptions,
    passed_over: Mapping[str, int],
) -> None:
    """Publish places for these files as the next increment, if nobody else is first."""
    with PartDraft(store, _increment_name(len(pins)), tables.PINS) as draft:
        for table in _assign(attempts, _shards(pins), options):
            draft.add(table)
        counts = RowCounts(draft.num_rows, draft.num_rows, 0)
        draft.publish(counts, facts=as_facts(passed_over))


def rechecked_reasons(store: Store, increments: Iterable[str]) -> dict[str, int]:
    """How many rejects have another attempt in these increments, by the reason they had."""
    reasons: Counter[str] = Counter()
    for name in increments:
        column = contract.read_part(store, name, tables.PINS, ["reason"])["reason"]
        reasons.update(column.drop_null().to_pylist())
    return dict(sorted(reasons.items()))


def pinned_labels(store: Store, increments: Iterable[str]) -> set[str]:
    """The classes of the loose images of a pinned source, as they were at the latest attempt."""
    pins = [contract.read_part(store, name, tables.PINS, PINNED) for name in increments]
    known = known_files(pins).items()
    # The members of a container have classes of their own.
    return {
        file.label for key, file in known if file.label is not None and not is_container_name(key)
    }


def snapshot_parts(store: Store, snapshot: Snapshot) -> list[PartId]:
    """The parts of a snapshot; each is made from the increment that its shard belongs to."""
    parts = []
    for name in snapshot.increments:
        digest = contract.read_receipt(store, name).digest
        shards = contract.read_part(store, name, tables.PINS, ["shard"])["shard"].unique()
        parts += [PartId(number, digest) for number in shards.to_pylist()]
    return parts


def shard_pins(store: Store, number: int) -> tuple[list[SourceFile], dict[int, str]]:
    """The files of one shard by row, and the rows with another attempt: row -> reason before it.

    A shard belongs to one increment, and attempts at its rejects to later ones. Also to those that
    came after the snapshot at work: an attempt that is there must not be made twice.
    """
    first, after = tables.image_id(number, 0), tables.image_id(number + 1, 0)
    wanted = (pc.field("shard") == number) | (
        (pc.field("recheck_of") >= first) & (pc.field("recheck_of") < after)
    )
    rechecked: dict[int, str] = {}
    for name in reversed(_increments(store)):
        with contract.open_part(store, name, tables.PINS) as parquet:
            # Pins are sorted by shard, so that few row groups have one.
            groups = {
                *parquet.groups_between("shard", number, number),
                *parquet.groups_between("recheck_of", first, after - 1),
            }
            rows = parquet.read(groups=sorted(groups)).filter(wanted).to_pylist()
        files = [_source_file(row) for row in rows if row["shard"] == number]
        if files:
            return files, rechecked
        rechecked |= {row["recheck_of"] - first: row["reason"] for row in rows}
    raise ProtegeError(f"{store.uri}: shard {number} is in no increment of the pins")


def _assign(
    attempts: Sequence[Attempt], first_shard: int, options: ShardOptions
) -> Iterator[pa.Table]:
    """Shard and row for each file: a container gets a shard, loose images share them.

    In tables of whole shards and some GROUP_ROWS: who makes a shard reads no other rows.
    """
    shard, rows = first_shard, list[dict[str, Any]]()
    for is_container, group in groupby(attempts, lambda attempt: attempt.file.is_container):
        most = (1, 0) if is_container else (options.images_per_shard, options.mib_per_shard << 20)
        for members in pieces(group, _size, *most):
            rows += [_pin_row(attempt, shard, row) for row, attempt in enumerate(members)]
            shard += 1
            if len(rows) >= GROUP_ROWS:
                yield pa.Table.from_pylist(rows, schema=tables.PINS)
                rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=tables.PINS)


def _size(attempt: Attempt) -> int:
    return max(attempt.file.size, 0)  # nobody has asked for that of a file in a list on S3


def _pin_row(attempt: Attempt, shard: int, row: int) -> dict[str, Any]:
    file = attempt.file
    return {
        "key": file.key,
        "shard": shard,
        "row": row,
        "uri": file.uri,
        "size": file.size,
        "version": file.version,
        "label": file.label,
        "tags": None if file.tags is None else list(file.tags),
        "recheck_of": attempt.recheck_of,
        "reason": attempt.reason,
    }


def _source_file(row: Mapping[str, Any]) -> SourceFile:
    fields = ("key", "uri", "size", "version", "label", "tags")
    return SourceFile(**{name: row[name] for name in fields})


def _shards(pins: Iterable[pa.Table]) -> int:
    """How many shards these pins have."""
    return 1 + max((int(np.max(table["shard"].to_numpy())) for table in pins), default=-1)


def _increments(store: Store) -> tuple[str, ...]:
    return tuple(name for name in store.sizes("pins") if name.endswith(".parquet"))


def _increment_name(number: int) -> str:
    return f"pins/{number:05d}.parquet"


def _read_increment(store: Store, number: int, name: str) -> pa.Table:
    try:
        if name != _increment_name(number):
            raise ProtegeError(f"{store.uri}/{_increment_name(number)} is missing")
        return contract.read_part(store, name, tables.PINS, PINNED)
    except ProtegeError as error:
        # Pinning again beside finished parts would give their ids to other images.
        raise ProtegeError(
            f"the pins of this source are damaged: {str(error).split('. Delete')[0]}. Bring that "
            f"file back, or delete the folder {store.uri} to pin the source anew"
        ) from error
