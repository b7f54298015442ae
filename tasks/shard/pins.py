"""Pins: which file is which row of which shard, once and for all.

In: a source and the root of the outputs. Out: a `Snapshot`, and tables `pins/00000.parquet`, one
for each time that the source had grown: the first listing assigns every file a shard and a row,
later ones assign only what is new, to later shards. Nothing is ever assigned twice.

    snapshot = pin(root, ShardOptions(source="photos/"))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.storage import Store, open_store
from tasks import contract, tables
from tasks.contract import Counts
from tasks.images import IMAGES_VERSION
from tasks.shard.options import ShardOptions
from tasks.sources import Entry, list_source

STAGE = "shard"
VERSION = 1
PINNED = ["key", "shard", "version", "label"]  # what a new listing is compared with


@dataclass(frozen=True)
class Snapshot:
    """A source as it was pinned at one time: the pins of all its increments."""

    fingerprint: str
    uri: str
    shards: int
    digest: str
    increments: tuple[str, ...]

    @property
    def manifest(self) -> str:
        """The manifest of the images of this snapshot."""
        return f"manifest-{self.digest}.json"


def pin(root: Store, options: ShardOptions) -> Snapshot:
    """List the source and assign what is new in it to new shards. Raises ProtegeError."""
    entries = list_source(options.source, labelled=options.labelled)
    content = {**options.content(), "source": open_store(options.source).uri}
    fingerprint = contract.fingerprint_of(STAGE, VERSION, {"shard": [content, IMAGES_VERSION]})
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    while True:
        increments = tuple(name for name in store.sizes("pins") if name.endswith(".parquet"))
        pins = [_read_pins(store, n, name) for n, name in enumerate(increments)]
        known = _known(pins)
        _check_unchanged(entries, known, options, store)
        shards = 1 + max((_last_shard(table) for table in pins), default=-1)
        fresh = [entry for entry in entries if entry.key not in known]
        if not fresh:
            digest = contract.digest_of(
                [contract.read_receipt(store, n).digest for n in increments]
            )
            return Snapshot(fingerprint, store.uri, shards, digest, increments)
        name = _increment_name(len(increments))
        table = _assign(fresh, shards, options.images_per_shard)
        # Whoever loses the race for this name finds the winner's pins in the next round.
        contract.write_part(store, name, table, Counts(len(fresh), len(fresh), 0))


def _known(pins: Sequence[pa.Table]) -> dict[str, tuple[str, str | None]]:
    """Version and label of every pinned file, by its key."""
    found: dict[str, tuple[str, str | None]] = {}
    for table in pins:
        columns = [table[name].to_pylist() for name in ("key", "version", "label")]
        found |= {key: (version, label) for key, version, label in zip(*columns)}
    return found


def _check_unchanged(
    entries: Sequence[Entry],
    known: Mapping[str, tuple[str, str | None]],
    options: ShardOptions,
    store: Store,
) -> None:
    """Raise ProtegeError when a pinned file is another now, or a labelled one is gone.

    Pinned images stay as they were, so a correction would otherwise be ignored in silence.
    """
    now = {entry.key: entry for entry in entries}
    changed = [key for key, was in known.items() if key in now and _differs(now[key], *was)]
    gone = [key for key in known if key not in now] if options.labelled else []
    if changed or gone:
        first = (changed or gone)[0]
        raise ProtegeError(
            f"{len(changed)} files have changed and {len(gone)} are gone since they were pinned "
            f"(such as {first}). To pin the source anew, delete {store.uri}"
        )


def _differs(entry: Entry, version: str, label: str | None) -> bool:
    if entry.is_container:
        return (entry.version, entry.label) != (version, label)
    # On disk the version is size and time; to touch a file, or to copy it anew, changes nothing.
    return (entry.version.split("-")[0], entry.label) != (version.split("-", maxsplit=1)[0], label)


def _assign(entries: Sequence[Entry], first_shard: int, images_per_shard: int) -> pa.Table:
    """Shard and row for each entry: a container gets a shard, loose images share them."""
    rows: list[dict[str, Any]] = []
    shard, row = first_shard - 1, images_per_shard
    for entry in entries:
        if entry.is_container or row >= images_per_shard:
            shard, row = shard + 1, 0
        rows.append(
            {
                "key": entry.key,
                "shard": shard,
                "row": row,
                "uri": entry.uri,
                "size": entry.size,
                "version": entry.version,
                "label": entry.label,
                "tags": None if entry.tags is None else list(entry.tags),
            }
        )
        row = images_per_shard if entry.is_container else row + 1
    return pa.Table.from_pylist(rows, schema=tables.PINS)


def _increment_name(number: int) -> str:
    return f"pins/{number:05d}.parquet"


def _read_pins(store: Store, number: int, name: str) -> pa.Table:
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


def _last_shard(pins: pa.Table) -> int:
    return int(np.max(pins["shard"].to_numpy()))


def shard_pins(store: Store, increments: Iterable[str], number: int) -> list[dict[str, Any]]:
    """The pins of one shard. A shard belongs to one increment; the last that can hold it has it."""
    for name in reversed(list(increments)):
        with store.open(name) as file:
            # Rows of other shards are not even read: pins are sorted by shard.
            table = pq.read_table(file, filters=[("shard", "==", number)])
        rows: list[dict[str, Any]] = table.to_pylist()
        if rows:
            return rows
    raise ProtegeError(f"{store.uri}: shard {number} is in no increment of the pins")
