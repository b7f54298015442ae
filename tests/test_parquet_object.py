"""ParquetObject: the same tables by ranges as from a disk, and no more bytes than are asked for."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.store import ParquetObject, Store
from infra.store.parquet import TAIL_BYTES, open_by_ranges
from infra.store.ranges import Range

COLUMNS = ["a", "a.b", "names", "data", "pair"]


def some_table(rows: int, value_bytes: int = 10) -> pa.Table:
    """Flat columns, nested ones, nulls, and a name with a dot."""
    rng = np.random.default_rng(rows)
    return pa.table(
        {
            "a": pa.array(range(rows), pa.int64()),
            "a.b": pa.array([None if row % 3 else row for row in range(rows)], pa.int32()),
            "names": pa.array([["x"] * (row % 4) for row in range(rows)], pa.list_(pa.string())),
            "data": pa.array([rng.bytes(value_bytes) for _ in range(rows)], pa.binary()),
            "pair": pa.array([{"u": row, "v": str(row)} for row in range(rows)]),
        }
    ).cast(
        pa.schema(
            [
                pa.field("a", pa.int64(), nullable=False, metadata={"note": "an id"}),
                pa.field("a.b", pa.int32()),
                pa.field("names", pa.list_(pa.string())),
                pa.field("data", pa.binary()),
                pa.field("pair", pa.struct({"u": pa.int64(), "v": pa.string()})),
            ]
        )
    )


def written(table: pa.Table, rows_per_group: int, **options: Any) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows_per_group, **options)
    return sink.getvalue()


class Memory:
    """An object in memory, which notes how much of it is read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.bytes_read = data, 0

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """As a store."""
        found = [self.data[offset : offset + size] for offset, size in ranges]
        self.bytes_read += sum(map(len, found))
        return found

    def open(self) -> ParquetObject:
        """As a Parquet file."""
        return open_by_ranges(self.read_ranges, len(self.data))


def test_file_is_read_from_either_store_as_arrow_reads_it(store: Store) -> None:
    table = some_table(1000, value_bytes=1000)
    data = written(table, 300)
    store.create("x.parquet", data)
    schema = pq.ParquetFile(io.BytesIO(data)).schema_arrow
    with store.open_parquet("x.parquet") as parquet:
        assert parquet.schema.equals(schema, check_metadata=True)
        assert parquet.num_bytes == len(data)
        assert parquet.read().equals(table)
        assert parquet.read(["a", "pair"]).equals(table.select(["a", "pair"]))
        assert parquet.read(["names"], [1, 3]).equals(
            pa.concat_tables([table.slice(300, 300), table.slice(900)]).select(["names"])
        )
        assert parquet.read(groups=[]).equals(table.slice(0, 0))
        assert parquet.head(5).equals(table.slice(0, 5))
        assert parquet.groups_between("a", 250, 300) == [0, 1]
        assert parquet.groups_between("a.b", 2000, 3000) == []


@given(
    st.integers(0, 400),
    st.integers(1, 200),
    st.sets(st.sampled_from(COLUMNS), min_size=1),
    st.sampled_from(["none", "snappy", "zstd"]),
    st.booleans(),
    st.sampled_from([10, 2_000]),
)
def test_every_layout_is_read_by_ranges(
    rows: int, per_group: int, columns: set[str], codec: str, dictionary: bool, value_bytes: int
) -> None:
    table = some_table(rows, value_bytes)
    data = written(table, per_group, compression=codec, use_dictionary=dictionary)
    parquet = Memory(data).open()
    wanted = sorted(columns)
    groups = list(range(0, parquet.metadata.num_row_groups, 2))
    assert parquet.read(wanted).equals(table.select(wanted))
    assert parquet.read(wanted, groups).equals(
        pq.ParquetFile(io.BytesIO(data)).read_row_groups(groups, columns=wanted)
    )


def test_no_more_is_read_than_the_footer_and_what_is_asked_for() -> None:
    table = some_table(2000, value_bytes=1000)
    memory = Memory(written(table, 500, use_dictionary=False))
    memory.open().read(["a", "names"], [0])
    assert memory.bytes_read < TAIL_BYTES + 20_000
    assert len(memory.data) > 2_000_000


def test_footer_that_is_longer_than_the_first_request_is_read_whole() -> None:
    wide = pa.table({f"column-{number}": [number] for number in range(5000)})
    memory = Memory(written(wide, 1))
    assert memory.open().read().equals(wide)
    assert len(memory.data) > 2 * TAIL_BYTES


def test_row_groups_of_nulls_hold_no_value__and_those_without_statistics_may() -> None:
    table = pa.table({"a": pa.array([None, None, 1, 2], pa.int64())})
    parquet = Memory(written(table, 2)).open()
    assert parquet.groups_between("a", 0, 9) == [1]
    unknown = Memory(written(table, 2, write_statistics=False)).open()
    assert unknown.groups_between("a", 5, 9) == [0, 1]


@pytest.mark.parametrize("size", [0, 3, 8, 100, 50_000, 400_000])
def test_torn_file_is_an_error_of_arrow(size: int) -> None:
    data = written(some_table(1000, value_bytes=1000), 100)
    with pytest.raises(pa.ArrowInvalid):
        Memory(data[:size]).open()
    with pytest.raises((pa.ArrowInvalid, OSError)):
        Memory(data[len(data) - size :]).open().read()
