"""Parts: one Parquet file for each shard, published complete or not at all.

A part carries its row counts, the digest of its content and that of the part it was made from in
its footer, so a resume that finds it knows them without reading the rows. A part that was made from
another content is a missing part.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import Store
from tasks.contract.identity import canonical, table_digest
from tasks.contract.progress import Stopwatch
from tasks.tables import ZSTD, Layout

FOOTER = b"protege"

ROW_GROUP_ROWS = 100_000  # small enough that a filter on a sorted column skips most of a big table


class PartId(NamedTuple):
    """A part before it exists: its number, and the digest of the part that it is made from.

    What is made from more than one part, or from the inputs that are hashed into the name of its
    folder, has no digest here.
    """

    number: int
    made_from: str = ""


@dataclass(frozen=True)
class RowCounts:
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
    made_from: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)


def part_name(number: int) -> str:
    """The name of a shard's part."""
    return f"part-{number:05d}.parquet"


def part_number(name: str) -> int:
    """The shard of a part, by its name."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def rejects_name(number: int) -> str:
    """The name of the rejects beside a shard's part."""
    return f"rejects-{number:05d}.parquet"


def write_part(
    store: Store,
    name: str,
    table: pa.Table,
    counts: RowCounts,
    *,
    made_from: str = "",
    facts: Mapping[str, str] | None = None,
    layout: Layout = ZSTD,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> Receipt:
    """Publish a part, or take the receipt of the one that somebody else has published.

    `made_from` is the digest of the part that it was made from.
    """
    facts = dict(facts or {})
    digest = table_digest(table)
    footer = canonical({**asdict(counts), "digest": digest, "facts": facts, "made_from": made_from})
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
        found = read_receipt(store, name)
        if found.made_from == made_from:
            return found
        # A run that was replaced, and did not notice it yet, has just made it from older images.
        store.replace(name, sink.getvalue())
    return Receipt(name, counts.rows_in, counts.kept, counts.rejected, digest, facts, made_from)


def read_receipt(store: Store, name: str) -> Receipt:
    """The receipt in a part's footer. Raises pa.ArrowInvalid when the file is torn."""
    with store.open(name) as file:
        schema = pq.read_schema(file)
    footer = json.loads((schema.metadata or {}).get(FOOTER, b"null"))
    if footer is None:
        raise pa.ArrowInvalid(f"{name} has no counts in its footer")
    return Receipt(name=name, **footer)


def read_schema(store: Store, name: str) -> pa.Schema:
    """The schema of a part. Raises ProtegeError when it is torn."""
    try:
        with store.open(name) as file:
            return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(store, name, error) from error


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
        raise _unreadable(store, name, error) from error
    return table.replace_schema_metadata(schema.metadata)


def _unreadable(store: Store, name: str, error: Exception) -> ProtegeError:
    remedy = "Delete this file and run again" if is_torn(error) else "Run again when it can be"
    return ProtegeError(
        f"{store.uri}/{name} cannot be read: {error}. {remedy}; only what is missing will be made "
        "again."
    )


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


def timed(receipt: Receipt, watch: Stopwatch) -> Receipt:
    """The receipt with the seconds that its work took."""
    return replace(receipt, seconds=watch.seconds)
