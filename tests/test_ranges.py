"""Ranges: few requests for many ranges, and the values of a part that are read alone."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.store import Store
from infra.store.ranges import BLOCK_BYTES, MERGE_GAP_BYTES, blocks_of, windows
from tasks import contract, tables
from tasks.contract import PartDraft, RowCounts
from tests.builders.shards import images_table

PIECE = MERGE_GAP_BYTES // 2
RANGES = st.lists(
    st.tuples(st.integers(0, 200 * PIECE), st.integers(0, 3 * PIECE)), min_size=0, max_size=40
)


@given(RANGES)
def test_blocks_hold_every_range_and_no_large_gap(ranges: list[tuple[int, int]]) -> None:
    blocks = blocks_of(ranges)
    places = sorted(place for block in blocks for place in block.places)
    assert places == [place for place, (_, size) in enumerate(ranges) if size]
    for block in blocks:
        inside = sorted(ranges[place] for place in block.places)
        assert block.offset == inside[0][0]
        assert block.end == max(offset + size for offset, size in inside)
        assert block.size <= BLOCK_BYTES or len(inside) == 1
    assert [block for window in windows(blocks) for block in window] == blocks


def test_neighbours_are_one_request_and_distant_ranges_are_two() -> None:
    near = [(0, 10), (20, 10), (10 + MERGE_GAP_BYTES, 5)]
    assert len(blocks_of(near)) == 1
    assert len(blocks_of([(0, 10), (11 + MERGE_GAP_BYTES, 5)])) == 2


def _images(sizes: list[int | None]) -> tuple[pa.Table, list[bytes | None]]:
    rng = np.random.default_rng(0)
    data = [None if size is None else rng.bytes(size) for size in sizes]
    count = len(sizes)
    columns = {
        "image_id": pa.array(range(count), pa.int64()),
        "image": pa.array(data, pa.binary()),
        "uri": pa.array(["elsewhere" if size is None else None for size in sizes], pa.string()),
        "offset": pa.array([0 if size is None else None for size in sizes], pa.int64()),
        "size": pa.array([size or 0 for size in sizes], pa.int64()),
        "key": pa.array([f"{row}.png" for row in range(count)]),
        "content_hash": pa.array([0] * count, pa.uint64()),
    }
    return images_table(columns), data


@pytest.mark.parametrize(
    "groups",
    [
        [[1]],
        [[5, 70_000, 3], [1_500_000, 1]],
        [[None, 10, None], [None, None], [7, None, 2_000_000, 9]],
        [list(range(1, 257)), [1] * 256],
    ],
)
def test_every_value_of_a_part_is_found_by_its_range(
    store: Store, groups: list[list[int | None]]
) -> None:
    found: list[bytes | None] = []
    with PartDraft(store, "part-00000.parquet", tables.IMAGES, tables.IMAGES_LAYOUT) as draft:
        for group in groups:
            table, data = _images(group)
            draft.add(table)
            found += data
        draft.publish(RowCounts(len(found), len(found), 0))
    sizes = np.array([-1 if data is None else len(data) for data in found])
    parquet = pq.ParquetFile(io.BytesIO(store.read("part-00000.parquet")))
    offsets = contract.value_offsets(parquet, "image", sizes)
    there = np.flatnonzero(sizes >= 0)
    values = list(zip(offsets[there].tolist(), sizes[there].tolist(), strict=True))
    read = contract.read_values(store, "part-00000.parquet", values)
    assert read == [data for data in found if data is not None]


def test_a_value_that_is_not_where_it_should_be_is_an_error(store: Store) -> None:
    store.create("x", (3).to_bytes(4, "little") + b"abc")
    assert contract.read_values(store, "x", [(4, 3)]) == [b"abc"]
    with pytest.raises(OSError, match="does not have its values"):
        contract.read_values(store, "x", [(5, 2)])
