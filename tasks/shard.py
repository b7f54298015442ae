"""shard: pins any image source as numbered shards.

In: a source (folder, tar, Parquet, list; local or S3). Out: `images` parts, one a shard, a table
of rejects beside those that have some, and a manifest for each snapshot of the source.

A source is pinned by increments: the first listing assigns every file a shard and a row, and later
listings assign only files that are new, to later shards. So a source that grows adds shards and
leaves the others as they are, and an `image_id` is never used twice.

    images = shard(root, ShardOptions(source="photos/"), Inline())
"""

import functools
import itertools
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from infra.cluster import Executor
from infra.errors import ProtegeError
from infra.storage import Store, open_store, split_uri
from tasks import contract, tables
from tasks.contract import Counts, Manifest, OnProgress, Output, Receipt, Stopwatch, silent
from tasks.images import IMAGES_VERSION, Limits, Unusable, check, decode
from tasks.options import Options
from tasks.sources import Entry, list_source, read_container
from tasks.work import run_shards

STAGE = "shard"
VERSION = 1
DECODE_THREADS = 2
PINNED = ["key", "shard", "version", "label"]  # what a new listing is compared with
ROW_GROUP_ROWS = 256  # a reader of one image reads no more than so many
READ_THREADS = 16  # small reads wait for the store, not for the processor
AT_ONCE = 256  # images checked at a time; those that stay in a tar are let go afterwards
MAX_IMAGE_BYTES = 1 << 30  # a file beyond it is no image, and would fill the memory of a worker


class ShardOptions(Options):
    """Where images come from and how they are cut into shards."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"max_reject_percent"})

    source: str = ""
    """A folder of images, of .tar or of .parquet files, or a list (.csv, .txt); local or s3://."""
    labelled: bool = False
    """The source tells true classes: by folder name, or by a column `label` of a list or table."""
    images_per_shard: int = Field(10_000, ge=1, le=1_000_000)
    """Loose images in a shard; a tar or Parquet file is always one shard."""
    verify: Literal["decode", "header"] = "decode"
    """Decode every image once (finds damaged files now) or look at headers only (faster)."""
    tar: Literal["reference", "copy"] = "reference"
    """Leave images in their tar files and remember the place, or copy them into the shards."""
    max_megapixels: float = Field(64, ge=0.01, le=1000)
    """Larger images are rejected by their header, before they are decoded."""
    max_reject_percent: float = Field(5, ge=0, le=100)
    """The stage fails when more than this share of the images cannot be used."""


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


def shard(
    root: Store,
    options: ShardOptions,
    executor: Executor,
    on_progress: OnProgress = silent,
    snapshot: Snapshot | None = None,
) -> Output:
    """Make the `images` parts that are missing for a snapshot of the source (default: of now).

    Raises ProtegeError when the source is empty, or too many images cannot be used.
    """
    started = time.perf_counter()
    snapshot = snapshot or pin(root, options)
    store = open_store(snapshot.uri)
    output = contract.find_output(store, snapshot.manifest)
    if output is None:
        job = functools.partial(_shard_one, _Job(snapshot, options))
        receipts = run_shards(store, range(snapshot.shards), job, executor, on_progress)
        manifest = Manifest(
            stage=STAGE,
            fingerprint=snapshot.fingerprint,
            options=options.model_dump(),
            inputs={},
            parts=receipts,
            seconds=time.perf_counter() - started,
            extra={"snapshot": snapshot.digest, "increments": list(snapshot.increments)},
        )
        output = contract.publish(store, manifest, snapshot.manifest)
    if not output.rows_in:
        raise ProtegeError(f"{options.source}: its .tar or .parquet files hold no images")
    contract.check_reject_share(output, options.max_reject_percent, options.source)
    return output


# -------------------------------------------------------------------------------------- pinning


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


# --------------------------------------------------------------------------------------- shards


@dataclass(frozen=True)
class _Job:
    snapshot: Snapshot
    options: ShardOptions

    @property
    def limits(self) -> Limits:
        return Limits(max_pixels=round(self.options.max_megapixels * 1_000_000))


@dataclass(frozen=True)
class _Candidate:
    """An image before it is checked; `error` says why its bytes could not be had."""

    key: str
    data: bytes
    label: str | None
    tags: Sequence[str] | None = None
    uri: str | None = None
    offset: int | None = None
    error: str | None = None


def _shard_one(job: _Job, number: int) -> Receipt:
    store = open_store(job.snapshot.uri)
    watch = Stopwatch()
    table, rejected = _checked(job, number, watch)
    contract.write_rejects(store, number, rejected, tables.REJECTS)
    receipt = contract.write_part(
        store,
        contract.part_name(number),
        table,
        Counts(len(table) + len(rejected), len(table), len(rejected)),
        # Encoded images do not shrink, and readers should not pay for trying.
        compression={"image": "none", **dict.fromkeys(("image_id", "key", "label"), "zstd")},
        row_group_rows=ROW_GROUP_ROWS,
    )
    watch.lap("write")
    return contract.timed(receipt, watch)


def _checked(job: _Job, number: int, watch: Stopwatch) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The images of a shard that can be used, and the rejects."""
    kept, rejected = [], []
    ids = itertools.count(tables.image_id(number, 0))
    candidates = _candidates(job, number)
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        while batch := list(itertools.islice(candidates, AT_ONCE)):
            watch.lap("read")
            for candidate, problem in zip(batch, pool.map(_verifier(job), batch)):
                image_id = next(ids)
                if problem is None:
                    kept.append(_image_row(image_id, candidate))
                else:
                    rejected.append({"image_id": image_id, "key": candidate.key, **problem})
            watch.lap("decode")
    return pa.Table.from_pylist(kept, schema=tables.IMAGES), rejected


def _pins(store: Store, increments: Iterable[str], number: int) -> list[dict[str, Any]]:
    """The pins of one shard. A shard belongs to one increment; the last that can hold it has it."""
    for name in reversed(list(increments)):
        with store.open(name) as file:
            # Rows of other shards are not even read: pins are sorted by shard.
            table = pq.read_table(file, filters=[("shard", "==", number)])
        rows: list[dict[str, Any]] = table.to_pylist()
        if rows:
            return rows
    raise ProtegeError(f"{store.uri}: shard {number} is in no increment of the pins")


def _candidates(job: _Job, number: int) -> Iterator[_Candidate]:
    store = open_store(job.snapshot.uri)
    pins = _pins(store, job.snapshot.increments, number)
    entry = Entry(pins[0]["key"], pins[0]["uri"], pins[0]["size"], pins[0]["version"])
    if entry.is_container:
        yield from _container_candidates(entry, job)
    else:
        with ThreadPoolExecutor(READ_THREADS) as pool:
            yield from pool.map(_read_loose, pins)


def _container_candidates(entry: Entry, job: _Job) -> Iterator[_Candidate]:
    try:
        for key, data, offset, label in read_container(entry.uri):
            keep_label = label if job.options.labelled else None
            place = entry.uri if offset is not None and job.options.tar == "reference" else None
            yield _Candidate(
                f"{entry.key}/{key}", data, keep_label, uri=place, offset=offset if place else None
            )
    except (OSError, pa.ArrowException, tarfile.TarError, EOFError, KeyError) as error:
        raise ProtegeError(
            f"{entry.uri} cannot be read ({error}). Mend it, or put it back, and run again; to go "
            f"on without it, remove it and delete the folder {job.snapshot.uri}"
        ) from error


def _read_loose(pin: dict[str, Any]) -> _Candidate:
    """The bytes of a file, or why there are none.

    Raises ProtegeError when that may pass: an outage must not turn images into rejects for good.
    """
    data, error = b"", None
    if pin["size"] > MAX_IMAGE_BYTES:
        error = f"a file of {pin['size'] >> 20:,} MiB"
    else:
        store, name = split_uri(pin["uri"])
        try:
            data = store.read(name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as problem:
            error = f"{type(problem).__name__}: {pin['uri']}"
        except OSError as problem:
            raise ProtegeError(
                f"{pin['uri']} cannot be read now: {problem}. Run again when it can; what is done "
                "is kept"
            ) from problem
    return _Candidate(pin["key"], data, pin["label"], pin["tags"], error=error)


def _verifier(job: _Job) -> Callable[[_Candidate], dict[str, str] | None]:
    inspect = decode if job.options.verify == "decode" else check

    def look(candidate: _Candidate) -> dict[str, str] | None:
        if candidate.error is not None:
            return {"reason": "unreadable", "detail": candidate.error}
        try:
            inspect(candidate.data, job.limits)
        except Unusable as unusable:
            return {"reason": unusable.reason, "detail": unusable.detail}
        return None

    return look


def _image_row(image_id: int, candidate: _Candidate) -> dict[str, Any]:
    in_place = candidate.uri is not None
    return {
        "image_id": image_id,
        "image": None if in_place else candidate.data,
        "uri": candidate.uri,
        "offset": candidate.offset,
        "size": len(candidate.data),
        "key": candidate.key,
        "label": candidate.label,
        "tags": candidate.tags,
    }


# -------------------------------------------------------------------------------------- reading


def read_images(
    images: Output, number: int, columns: Sequence[str] = (), only: np.ndarray | None = None
) -> pa.Table:
    """Rows of one shard with the bytes of their images, wherever those lie.

    `only` is a sorted array of image_ids; without it, all rows. Raises ProtegeError.
    """
    wanted = ["image_id", "image", "uri", "offset", "size", *columns]
    name = contract.part_name(number)
    table = contract.read_part(images.store, name, tables.IMAGES, wanted, only)
    data = _bytes_of(table)
    return table.select(["image_id", *columns]).append_column("image", pa.array(data, pa.binary()))


def _bytes_of(table: pa.Table) -> list[bytes | None]:
    data: list[bytes | None] = table["image"].to_pylist()
    in_place: dict[str, list[int]] = {}
    for row, uri in enumerate(table["uri"].to_pylist()):
        if uri is not None:
            in_place.setdefault(uri, []).append(row)
    for uri, rows in in_place.items():
        store, name = split_uri(uri)
        ranges = [(table["offset"][row].as_py(), table["size"][row].as_py()) for row in rows]
        try:
            pieces = store.read_ranges(name, ranges)
        except OSError as error:
            raise ProtegeError(f"{uri} cannot be read any more: {error}") from error
        for row, piece in zip(rows, pieces):
            data[row] = piece
    return data


def class_names(labelled: Output, test: Output) -> list[str]:
    """The sorted names of the classes, after a look at whether both sources are sound.

    Raises ProtegeError when an image has no class, a class has no usable image, there are fewer
    than two, or the test images have one that no labelled image has.
    """
    names = _usable_classes(labelled, "labelled")
    if len(names) < 2:
        raise ProtegeError(f"the labelled images have {len(names)} classes; at least 2 are needed")
    unknown = sorted(set(_usable_classes(test, "test")) - set(names))
    if unknown:
        raise ProtegeError(
            f"the test images have classes without a labelled image: {', '.join(unknown[:5])}. "
            "Label some of each, or take these classes out of the test set"
        )
    return names


def _usable_classes(images: Output, role: str) -> list[str]:
    manifest = contract.load_manifest(images)
    labels = contract.read_rows(images, tables.IMAGES, ["label"])["label"].to_pylist()
    if None in labels:
        raise ProtegeError(
            f"{labels.count(None)} {role} images have no class: put every image into a folder "
            "named after its class, or give a list with a column 'label'"
        )
    names = set(labels)
    for name in manifest["extra"]["increments"]:
        pinned = contract.read_part(images.store, name, tables.PINS, ["label"])
        lost = set(pinned["label"].to_pylist()) - names - {None}
        if lost:
            raise ProtegeError(
                f"class {sorted(lost)[0]!r} has no usable {role} image: all were rejected; "
                f"`protege show {images.uri}` says why"
            )
    return sorted(names)
