"""The stage contract: fingerprints, parts, manifests, and the reference that a stage returns.

A stage's output lies under `<root>/<stage>/<fingerprint>/`. Parts are Parquet files with names
that are fixed before work starts and that appear complete or not at all; a part carries its
counts and the digest of its content in its footer. The manifest is published last and names the
parts that belong to the output. What later stages read is the manifest, never a listing.

    fingerprint = fingerprint_of("topk", VERSION, options.content(), [scores.digest])
    done = find_output(store)                              # an Output, or None
    receipt = write_part(store, "part-00000.parquet", table, Counts(12, 12, 0))
    output = publish(store, Manifest(...))
"""

import hashlib
import io
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.clock import utc_now
from infra.errors import ProtegeError
from infra.storage import Store, open_store
from tasks.tables import ZSTD, Layout

MANIFEST = "manifest.json"
FOOTER = b"protege"
ROW_GROUP_ROWS = 100_000  # small enough that a filter on a sorted column skips most of a big table

# done and total count shards (or steps); the note says which part of the work is the slow one.
OnProgress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """The progress callback of those who do not watch."""


@dataclass(frozen=True)
class Counts:
    """Rows of a part: rows_in = kept + rejected, always."""

    rows_in: int
    kept: int
    rejected: int

    def __post_init__(self) -> None:
        if self.rows_in != self.kept + self.rejected:
            raise AssertionError(f"lost rows: {self}")


@dataclass(frozen=True)
class Receipt:
    """What is known of one finished part. `seconds` is empty for a part that was already there."""

    name: str
    rows_in: int
    kept: int
    rejected: int
    digest: str
    facts: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """Reference to a finished output of a stage; small enough to travel anywhere.

    `digest` is the identity of the content: reduce stages hash it into their fingerprints.
    `reused` says that this run found the output already there.
    """

    stage: str
    fingerprint: str
    uri: str
    manifest: str
    digest: str
    rows_in: int
    kept: int
    rejected: int
    seconds: float
    reused: bool = False

    @property
    def store(self) -> Store:
        """The folder of the output."""
        return open_store(self.uri)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, in 16 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def bytes_digest(data: bytes) -> str:
    """SHA-256 of the bytes of a file, in 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def fingerprint_of(
    stage: str, version: int, content: Mapping[str, Any], inputs: Sequence[str] = ()
) -> str:
    """The name of an output: everything that can change it, hashed."""
    return digest_of([stage, version, content, list(inputs)])


def part_name(number: int) -> str:
    """The name of a shard's part."""
    return f"part-{number:05d}.parquet"


def part_number(name: str) -> int:
    """The shard of a part, by its name."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def rejects_name(number: int) -> str:
    """The name of the rejects beside a shard's part."""
    return f"rejects-{number:05d}.parquet"


# ---------------------------------------------------------------------------------------- parts


def table_digest(table: pa.Table) -> str:
    """SHA-256 of the values, whatever their chunks and compression."""
    sink = _HashSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.hash.hexdigest()[:16]


class _HashSink(io.RawIOBase):
    """A file that only remembers the hash of what was written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True


def write_part(
    store: Store,
    name: str,
    table: pa.Table,
    counts: Counts,
    *,
    facts: Mapping[str, str] | None = None,
    layout: Layout = ZSTD,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> Receipt:
    """Publish a part, or take the receipt of the one that somebody else has published."""
    facts = dict(facts or {})
    digest = table_digest(table)
    footer = canonical({**asdict(counts), "digest": digest, "facts": facts})
    described = table.replace_schema_metadata({**(table.schema.metadata or {}), FOOTER: footer})
    sink = io.BytesIO()
    pq.write_table(
        described,
        sink,
        compression=layout.compression,
        column_encoding=layout.encodings,
        use_dictionary=[name for name in table.column_names if name not in layout.encodings],
        row_group_size=row_group_rows,
    )
    if not store.create(name, sink.getvalue()):
        return read_receipt(store, name)
    return Receipt(name, counts.rows_in, counts.kept, counts.rejected, digest, facts)


def read_receipt(store: Store, name: str) -> Receipt:
    """The receipt in a part's footer. Raises pa.ArrowInvalid when the file is torn."""
    with store.open(name) as file:
        schema = pq.read_schema(file)
    footer = json.loads((schema.metadata or {}).get(FOOTER, b"null"))
    if footer is None:
        raise pa.ArrowInvalid(f"{name} has no counts in its footer")
    return Receipt(name=name, **footer)


def is_torn(error: Exception) -> bool:
    """Whether the bytes of a table are wrong, rather than the way to them (a store that is away).

    Arrow reports a broken footer as an OSError too, but one without an error number.
    """
    away = (ConnectionError, TimeoutError, FileNotFoundError, PermissionError)
    if isinstance(error, OSError):
        return error.errno is None and not isinstance(error, away)
    return isinstance(error, pa.ArrowInvalid)


def read_part(
    store: Store,
    name: str,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    only: npt.NDArray[np.int64] | None = None,
) -> pa.Table:
    """The rows of a part, checked against the schema that it should have.

    With `only`, the rows with these image_ids, reading no more row groups than hold them. Raises
    ProtegeError, naming the file, when it is torn or of another schema.
    """
    try:
        with store.open(name) as file:
            # A column by itself would be a request by itself.
            parquet = pq.ParquetFile(file, pre_buffer=True)
            if not parquet.schema_arrow.equals(schema):
                raise pa.ArrowInvalid("it has another schema")
            if only is None:
                table = parquet.read(columns=columns)
            else:
                table = _read_only(parquet, columns, only)
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "Delete this file and run again" if is_torn(error) else "Run again when it can be"
        raise ProtegeError(
            f"{store.uri}/{name} cannot be read: {error}. {remedy}; only what is missing will be "
            "made again."
        ) from error
    return table.replace_schema_metadata(schema.metadata)


def _read_only(
    parquet: pq.ParquetFile, columns: Sequence[str] | None, only: npt.NDArray[np.int64]
) -> pa.Table:
    wanted = np.isin(parquet.read(columns=["image_id"])["image_id"].to_numpy(), only)
    groups, kept, first = [], [], 0
    for group in range(parquet.num_row_groups):
        inside = wanted[first : first + parquet.metadata.row_group(group).num_rows]
        first += len(inside)
        if inside.any():
            groups.append(group)
            kept.append(inside)
    table = parquet.read_row_groups(groups, columns=columns)
    return table.filter(pa.array(np.concatenate(kept))) if groups else table


def write_rejects(
    store: Store, shard: int, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Publish the rejects of a shard; called before its part, which is the commit."""
    if rows:
        table = pa.Table.from_pylist(list(rows), schema=schema)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        store.replace(rejects_name(shard), sink.getvalue())


# ------------------------------------------------------------------------------------- manifest


@dataclass(frozen=True)
class Manifest:
    """What an output is and where it came from; published last."""

    stage: str
    fingerprint: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str]]
    parts: Sequence[Receipt]
    seconds: float
    extra: Mapping[str, Any] = field(default_factory=dict)
    # Rejects, by reason, with another attempt in a later part, which is what counts.
    retried: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identity of the content: the parts and what they hold, not when or how fast."""
        parts = sorted((part.name, part.digest) for part in self.parts)
        return digest_of([self.stage, self.fingerprint, parts])


def link(output: Output) -> dict[str, str]:
    """How a manifest refers to an input: enough to walk the lineage."""
    return {
        "stage": output.stage,
        "fingerprint": output.fingerprint,
        "digest": output.digest,
        "manifest": f"{output.stage}/{output.fingerprint}/{output.manifest}",
    }


def publish(store: Store, manifest: Manifest, name: str = MANIFEST) -> Output:
    """Publish the manifest and return the reference to the output."""
    sizes = store.sizes()
    retried = sum(manifest.retried.values())
    body = {
        "stage": manifest.stage,
        "fingerprint": manifest.fingerprint,
        "digest": manifest.digest,
        "rows_in": sum(part.rows_in for part in manifest.parts) - retried,
        "kept": sum(part.kept for part in manifest.parts),
        "rejected": sum(part.rejected for part in manifest.parts) - retried,
        "retried": manifest.retried,
        "seconds": round(manifest.seconds, 3),
        "work_seconds": _total_seconds(manifest.parts),
        "made_at": utc_now(),
        "options": manifest.options,
        "inputs": manifest.inputs,
        "versions": versions(),
        "extra": manifest.extra,
        "parts": [
            {**asdict(replace(part, seconds={})), "bytes": sizes[part.name].size}
            for part in manifest.parts
        ],
    }
    store.replace(name, json.dumps(body, indent=1, ensure_ascii=False).encode())
    return _reference(store, name, body, reused=False)


def find_output(store: Store, name: str = MANIFEST) -> Output | None:
    """The reference to a finished output in this folder.

    None when there is no manifest, or a part that it names is gone: whoever deletes a damaged part
    gets it made again.
    """
    try:
        body = json.loads(store.read(name))
    except FileNotFoundError:
        return None
    if not {part["name"] for part in body["parts"]} <= set(store.sizes()):
        return None
    return _reference(store, name, body, reused=True)


def load_manifest(output: Output) -> dict[str, Any]:
    """The manifest of an output, as it was published."""
    body: dict[str, Any] = json.loads(output.store.read(output.manifest))
    return body


def part_names(output: Output) -> list[str]:
    """The names of the parts of an output, in order."""
    return [part["name"] for part in load_manifest(output)["parts"]]


def read_rows(
    output: Output, schema: pa.Schema, columns: Sequence[str] | None = None, prefix: str = "part-"
) -> pa.Table:
    """All rows of a small output whose parts begin with `prefix`."""
    names = [name for name in part_names(output) if name.startswith(prefix)]
    tables = [read_part(output.store, name, schema, columns) for name in names]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _reference(store: Store, name: str, body: Mapping[str, Any], *, reused: bool) -> Output:
    taken = ("stage", "fingerprint", "digest", "rows_in", "kept", "rejected", "seconds")
    return Output(uri=store.uri, manifest=name, reused=reused, **{key: body[key] for key in taken})


def _total_seconds(parts: Iterable[Receipt]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for kind, seconds in part.seconds.items():
            total[kind] = total.get(kind, 0.0) + seconds
    return {kind: round(seconds, 3) for kind, seconds in total.items()}


@cache
def versions() -> dict[str, str]:
    """The versions that stand behind an output."""
    packages = ("protege", "torch", "numpy", "pyarrow", "pillow", "simplejpeg")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class Stopwatch:
    """Seconds of the parts of the work: read, decode, compute, write."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, kind: str) -> None:
        """Book the time since the last lap under `kind`."""
        now = time.perf_counter()
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self._since
        self._since = now


def slowest(seconds: Mapping[str, float]) -> str:
    """`decode 61 %`: the part of the work that takes longest, or nothing yet."""
    total = sum(seconds.values())
    if not total:
        return ""
    kind = max(seconds, key=lambda name: seconds[name])
    return f"{kind} {seconds[kind] / total:.0%}"


def timed(receipt: Receipt, watch: Stopwatch) -> Receipt:
    """The receipt with the seconds that its work took."""
    return replace(receipt, seconds=watch.seconds)


def reject_reasons(output: Output) -> dict[str, int]:
    """How many rows of an output were rejected for which reason, sorted by reason.

    Those with another attempt do not count.
    """
    manifest = load_manifest(output)
    reasons: Counter[str] = Counter()
    for part in manifest["parts"]:
        if part["rejected"]:
            with output.store.open(part["name"].replace("part-", "rejects-")) as file:
                reasons.update(pq.read_table(file, columns=["reason"])["reason"].to_pylist())
    return dict(sorted((reasons - Counter(manifest["retried"])).items()))


def check_reject_share(
    output: Output, max_percent: float, source: str, remedy: str = "delete that folder"
) -> None:
    """Raise ProtegeError, with the counts by reason, when too many rows were rejected.

    `remedy` is what to do after the images were mended.
    """
    if output.rejected <= output.rows_in * max_percent / 100:
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in reject_reasons(output).items())
    raise ProtegeError(
        f"{output.stage}: {output.rejected} of {output.rows_in} images of {source} cannot be used "
        f"({counts}). `protege show {output.uri}` lists them. Mend them and {remedy}, or raise "
        f"max_reject_percent (now {max_percent:g})"
    )
