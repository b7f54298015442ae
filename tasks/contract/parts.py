"""Parts: one Parquet file for each shard, published complete or not at all.

A part carries its row counts, the digest of its content and that of the part it was made from in
its footer, so a resume that finds it knows them without reading the rows. A part that was made from
another content is a missing part.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import ParquetObject, Store
from tasks.contract.progress import Stopwatch
from tasks.pieces import PIECE_BYTES, pieces

FOOTER = b"protege"

Reasons = Mapping[str, Mapping[str, int]]


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
    """What is known of one finished part.

    `reasons` counts its rejects by reason and by the ending of their names, `num_bytes` are those
    of its file, where they are known; `seconds` is empty for a part that was already there.
    """

    name: str
    rows_in: int
    kept: int
    rejected: int
    digest: str
    facts: Mapping[str, str] = field(default_factory=dict)
    made_from: str = ""
    reasons: Reasons = field(default_factory=dict)
    num_bytes: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def footer(self) -> dict[str, Any]:
        """What is written of it into the part."""
        not_written = ("name", "num_bytes", "seconds")
        return {key: value for key, value in vars(self).items() if key not in not_written}


def part_name(number: int) -> str:
    """The name of a shard's part."""
    return f"part-{number:05d}.parquet"


def part_number(name: str) -> int:
    """The shard of a part, by its name."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def rejects_name(number: int) -> str:
    """The name of the rejects beside a shard's part."""
    return f"rejects-{number:05d}.parquet"


def read_receipt(store: Store, name: str) -> Receipt:
    """The receipt in a part's footer. Raises pa.ArrowInvalid when the file is torn."""
    with store.open_parquet(name) as parquet:
        metadata, num_bytes = parquet.metadata.metadata, parquet.num_bytes
    footer = json.loads((metadata or {}).get(FOOTER, b"null"))
    if footer is None:
        raise pa.ArrowInvalid(f"{name} has no counts in its footer")
    return Receipt(name=name, num_bytes=num_bytes, **footer)


def read_schema(store: Store, name: str) -> pa.Schema:
    """The schema of a part. Raises ProtegeError when it is torn."""
    try:
        with store.open_parquet(name) as parquet:
            return parquet.schema
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(store, name, error) from error


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
    if only is not None:
        found = list(read_pieces(store, name, schema, columns, only))
        empty = schema.empty_table()
        return pa.concat_tables(found or [empty.select(columns) if columns else empty])
    with open_part(store, name, schema) as parquet:
        table = parquet.read(columns)
    return table.replace_schema_metadata(schema.metadata)


def read_pieces(
    store: Store,
    name: str,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    only: npt.NDArray[np.int64] | None = None,
) -> Iterator[pa.Table]:
    """The rows of a part, a few row groups at a time: so many as PIECE_BYTES hold, at least one.

    With `only`, the rows with these image_ids. Raises ProtegeError as `read_part` does.
    """
    with open_part(store, name, schema) as parquet:
        groups = [group for group, _ in _group_rows(parquet)]
        if only is not None:
            wanted = np.isin(parquet.read(["image_id"])["image_id"].to_numpy(), only)
            groups = [group for group, rows in _group_rows(parquet) if wanted[rows].any()]

        def size_of(group: int) -> int:
            size: int = parquet.metadata.row_group(group).total_byte_size
            return size

        for piece in pieces(groups, size_of, len(groups), PIECE_BYTES):
            table = parquet.read(columns, piece)
            if only is not None:
                table = table.filter(np.isin(table["image_id"].to_numpy(), only))
            yield table.replace_schema_metadata(schema.metadata)


def _group_rows(parquet: ParquetObject) -> Iterator[tuple[int, slice]]:
    """Each row group and its rows."""
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        yield group, slice(first, last)
        first = last


@contextmanager
def open_part(store: Store, name: str, schema: pa.Schema) -> Iterator[ParquetObject]:
    """A part that is read by hand. Raises ProtegeError as `read_part` does."""
    try:
        with store.open_parquet(name) as parquet:
            if not parquet.schema.equals(schema):
                raise pa.ArrowInvalid("it has another schema")
            yield parquet
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(store, name, error) from error


def unreadable(store: Store, name: str, error: Exception) -> ProtegeError:
    """What to say of a part that cannot be read."""
    remedy = "Delete this file and run again" if is_torn(error) else "Run again when it can be"
    return ProtegeError(
        f"{store.uri}/{name} cannot be read: {error}. {remedy}; only what is missing will be made "
        "again."
    )


def timed(receipt: Receipt, watch: Stopwatch) -> Receipt:
    """The receipt with the seconds that its work took."""
    return replace(receipt, seconds=watch.seconds)
