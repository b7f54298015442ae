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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.cluster import Executor
from infra.errors import ProtegeError
from infra.storage import Store, open_store, split_uri
from tasks import contract, tables
from tasks.contract import Counts, Manifest, OnProgress, Output, Receipt, Stopwatch, silent
from tasks.images import Limits, Unusable, check, decode
from tasks.shard.options import ShardOptions
from tasks.shard.pins import STAGE, Snapshot, pin, shard_pins
from tasks.shard.read import class_names, read_images, read_keys, read_many
from tasks.sources import Entry, read_container
from tasks.work import run_shards

DECODE_THREADS = 2
ROW_GROUP_ROWS = 256  # a reader of one image reads no more than so many
READ_THREADS = 16  # small reads wait for the store, not for the processor
AT_ONCE = 256  # images checked at a time; those that stay in a tar are let go afterwards
MAX_IMAGE_BYTES = 1 << 30  # a file beyond it is no image, and would fill the memory of a worker

__all__ = [
    "STAGE",
    "ShardOptions",
    "Snapshot",
    "class_names",
    "pin",
    "read_images",
    "read_keys",
    "read_many",
    "shard",
]


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


def _candidates(job: _Job, number: int) -> Iterator[_Candidate]:
    store = open_store(job.snapshot.uri)
    pins = shard_pins(store, job.snapshot.increments, number)
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
