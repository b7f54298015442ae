"""Parquet tables stay where they are: an image is read out of its page, or was copied."""

import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store, open_store
from infra.store.local import LocalStore
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.images import encode_png
from tasks.shard import locate_images, piece_places, read_images
from tasks.shard.sources import BadContainer, pages
from tasks.shard.sources.page_headers import read_page_header
from tests.builders.chosen import chosen_of
from tests.builders.containers import read
from tests.builders.shards import shard_table
from tests.builders.sources import CALM, rows, run

COUNT = 40
RNG = np.random.default_rng(0)
PNGS = [
    encode_png(RNG.integers(256, size=(16, 16 + row, 3), dtype=np.uint8)) for row in range(COUNT)
]
CODECS = ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "root"))


def table_of(images: list[bytes | None], *, wrapped: bool = False) -> pa.Table:
    kind: pa.DataType = pa.binary()
    data: list[Any] = list(images)
    if wrapped:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        data = [{"bytes": image, "path": None} for image in images]
    return pa.table(
        {"image": pa.array(data, kind), "key": [f"{number}.png" for number in range(len(images))]}
    )


def written(path: Path, images: list[bytes | None], *, wrapped: bool = False, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(images, wrapped=wrapped), path, **how)
    return path


def in_place(images: Output) -> list[bool]:
    return [row["image"] is None for row in rows(images)]


# ---------------------------------------------------------------------- any way of writing them


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_images_of_any_codec_and_page_stay_where_they_are(
    root: Store, tmp_path: Path, codec: str, version: str, *, use_dictionary: bool
) -> None:
    how: dict[str, Any] = {
        "compression": codec,
        "data_page_version": version,
        "use_dictionary": use_dictionary,
    }
    source = written(tmp_path / "a.parquet", list(PNGS), row_group_size=16, **how)
    images = run(root, source)
    assert all(in_place(images))
    assert shard_table(images, 0)["image"].to_pylist() == PNGS
    some = np.array([3, 17, 39])
    assert dict(read_images(images, 0, some)) == {row: PNGS[row] for row in some.tolist()}
    has_pages = any(row["page_codec"] is not None for row in rows(images))
    assert has_pages == (codec != "none")


@CALM
@given(
    numbers=st.lists(st.one_of(st.none(), st.integers(0, COUNT - 1)), min_size=1, max_size=30),
    rows_per_group=st.integers(1, 31),
    page_bytes=st.sampled_from([1, 4_000, 1 << 20]),
    dictionary_bytes=st.sampled_from([1, 4_000, 1 << 20]),
    codec=st.sampled_from(CODECS),
    version=st.sampled_from(["1.0", "2.0"]),
    wrapped=st.booleans(),
    chunked=st.booleans(),
)
def test_every_way_of_writing_gives_the_images_of_a_copy(
    tmp_path: Path,
    numbers: list[int | None],
    rows_per_group: int,
    page_bytes: int,
    dictionary_bytes: int,
    codec: str,
    version: str,
    wrapped: bool,
    chunked: bool,
) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    source = written(
        folder / "a.parquet",
        [None if number is None else PNGS[number] for number in numbers],
        wrapped=wrapped,
        row_group_size=rows_per_group,
        data_page_size=page_bytes,
        write_batch_size=1,
        dictionary_pagesize_limit=dictionary_bytes,
        compression=codec,
        data_page_version=version,
        use_content_defined_chunking=chunked,
    )
    stores = [open_store(str(folder / how)) for how in ("reference", "copy")]
    left, copied = [
        run(store, source, containers=store.uri.rpartition("/")[2], max_reject_percent=100)
        for store in stores
    ]
    assert shard_table(left, 0, ["key"]).equals(shard_table(copied, 0, ["key"]))
    assert not any(in_place(copied))
    assert all(in_place(left))


def test_images_in_pages_that_are_too_large_are_copied(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "a.parquet", list(PNGS), compression="zstd", use_dictionary=False)
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1_000)
    images = run(root, source)
    assert not any(in_place(images))
    assert shard_table(images, 0)["image"].to_pylist() == PNGS
    written(source, list(PNGS), compression="none")
    images = run(open_store(str(tmp_path / "other")), source)
    assert all(in_place(images)), "each is a range by itself"


def test_a_dictionary_may_have_any_order_and_more_than_its_rows(
    root: Store, tmp_path: Path
) -> None:
    order = list(reversed(range(COUNT)))
    column = pa.DictionaryArray.from_arrays(pa.array(order, pa.int32()), pa.array(PNGS))
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", row_group_size=7)
    images = run(root, tmp_path / "a.parquet")
    assert all(in_place(images))
    assert [image for _, image in read_images(images, 0)] == [PNGS[place] for place in order]


@pytest.mark.parametrize(
    ("kind", "stays"),
    [
        (pa.large_binary(), True),
        (pa.binary_view(), True),
        (pa.binary(len(PNGS[0])), False),
    ],
)
def test_columns_of_any_type_of_bytes(
    root: Store, tmp_path: Path, kind: pa.DataType, *, stays: bool
) -> None:
    table = pa.table({"image": pa.array([PNGS[0]] * 3, kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    images = run(root, tmp_path / "a.parquet")
    assert in_place(images) == [stays] * 3
    assert [image for _, image in read_images(images, 0)] == [PNGS[0]] * 3


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_images_in_pages_of_other_encodings_are_copied(
    root: Store, tmp_path: Path, encoding: str
) -> None:
    how = {"use_dictionary": False, "column_encoding": {"image": encoding}}
    pq.write_table(table_of(list(PNGS)), tmp_path / "a.parquet", **how)
    images = run(root, tmp_path / "a.parquet")
    assert not any(in_place(images))
    assert [image for _, image in read_images(images, 0)] == PNGS


def test_row_groups_without_rows_and_names_with_dots(root: Store, tmp_path: Path) -> None:
    table = table_of(list(PNGS[:6])).rename_columns(["a.b", "key"])
    table = table.append_column("a", pa.array([{"b": "x"}] * 6))
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for rows_of_group in (table[:3], table[:0], table[3:]):
            writer.write_table(rows_of_group)
    images = run(root, tmp_path / "a.parquet", image_column="a.b")
    assert not any(in_place(images)), "there are two columns of this path"
    assert [image for _, image in read_images(images, 0)] == PNGS[:6]
    with pq.ParquetWriter(tmp_path / "b.parquet", table.drop_columns(["a"]).schema) as writer:
        for rows_of_group in (table[:3], table[:0], table[3:]):
            writer.write_table(rows_of_group.drop_columns(["a"]))
    images = run(open_store(str(tmp_path / "b")), tmp_path / "b.parquet")
    assert all(in_place(images))
    assert [image for _, image in read_images(images, 0)] == PNGS[:6]


# ---------------------------------------------------------------------------- how they are read


def test_a_page_is_read_once_by_whoever_reads_all_of_them(root: Store, tmp_path: Path) -> None:
    twice = [image for image in PNGS[: COUNT // 2] for _ in range(2)]
    source = written(tmp_path / "a.parquet", list(twice), row_group_size=10)
    images = run(root, source)
    places = locate_images(images, 0)
    asked: list[tuple[int, int]] = []
    read_ranges = LocalStore.read_ranges

    def counted(store: LocalStore, path: str, ranges: Any) -> list[bytes]:
        asked.extend(ranges)
        return read_ranges(store, path, ranges)

    with patch.object(LocalStore, "read_ranges", counted):
        assert [image for _, image in read_images(images, 0)] == twice
    assert len(asked) == len(set(asked)) == 4
    assert [len(piece) for piece in piece_places(places, 1)] == [10, 10, 10, 10]
    assert [len(piece) for piece in piece_places(places, 1 << 30)] == [COUNT]


def test_a_table_on_s3_is_read_by_the_ranges_of_its_pages(root: Store, s3: str) -> None:
    sink = io.BytesIO()
    pq.write_table(table_of(list(PNGS)), sink, row_group_size=10)
    open_store(f"{s3}/tables").replace("a.parquet", sink.getvalue())
    images = run(root, f"{s3}/tables")
    assert all(in_place(images))
    assert [image for _, image in read_images(images, 0)] == PNGS
    some = np.array([12, 33])
    assert dict(read_images(images, 0, some)) == {row: PNGS[row] for row in some.tolist()}


def test_lessons_are_those_of_copied_images__by_way_of_the_exchange(tmp_path: Path) -> None:
    source = written(tmp_path / "a.parquet", list(PNGS), row_group_size=10)
    pairs = [(place, place % 3) for place in range(0, COUNT, 2)]
    found = []
    for how in ("reference", "copy"):
        store = open_store(str(tmp_path / how))
        images = run(store, source, containers=how)
        chosen = chosen_of(store, images, pairs)
        lessons = gather(store, images, chosen, GatherOptions(lessons_per_part=3))
        found.append([part["digest"] for part in lessons.body["parts"]])
    assert found[0] == found[1]


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_table_that_has_changed_or_gone_is_an_error(
    root: Store, tmp_path: Path, codec: str
) -> None:
    source = written(tmp_path / "a.parquet", list(PNGS), compression=codec)
    images = run(root, source)
    first = rows(images)[0]
    harmed = bytearray(source.read_bytes())
    harmed[(first["page_offset"] or first["offset"]) + 100] ^= 255
    source.write_bytes(harmed)
    with pytest.raises(ProtegeError, match="has changed since it was pinned"):
        list(read_images(images, 0))
    source.write_bytes(harmed[:200])
    with pytest.raises(ProtegeError, match="cannot be read any more"):
        list(read_images(images, 0))
    source.unlink()
    with pytest.raises(ProtegeError, match="cannot be read any more"):
        list(read_images(images, 0))


def test_a_codec_that_is_missing_here_is_no_change_of_the_table(
    root: Store, tmp_path: Path
) -> None:
    images = run(root, written(tmp_path / "a.parquet", list(PNGS)))
    lacking = pa.ArrowNotImplementedError("no such codec here")
    with (
        patch.object(pa, "decompress", side_effect=lacking),
        pytest.raises(pa.ArrowNotImplementedError, match="no such codec"),
    ):
        list(read_images(images, 0))


# -------------------------------------------------------------------------------- page headers


@given(st.binary(max_size=60))
def test_any_bytes_are_a_header_or_a_known_error(data: bytes) -> None:
    try:
        header = read_page_header(data)
    except (IndexError, ValueError):
        return
    assert header.header_bytes <= len(data)
    sizes = (header.levels_bytes, header.num_bytes, header.decompressed_bytes)
    assert all(0 <= number < 2**31 for number in (header.num_values, *sizes))


@pytest.mark.parametrize(
    "levels", [b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", b"\xfe\xff\xff\xff\x1f", b"\xc8\x01"]
)
def test_a_header_with_levels_longer_than_its_page_is_refused(levels: bytes) -> None:
    """A page of 20 bytes; the numbers are those of its fields, in parquet.thrift."""
    of_page = b"\x15\x02\x15\x00\x15\x02\x15\x00\x15" + levels + b"\x15\x00\x00"
    with pytest.raises(ValueError, match=r"levels|number"):
        read_page_header(b"\x15\x06\x15\x28\x15\x28\x5c" + of_page + b"\x00")
    of_page = b"\x15\x02\x15\x00\x15\x02\x15\x00\x15\x02\x15\x00\x00"
    assert read_page_header(b"\x15\x06\x15\x28\x15\x28\x5c" + of_page + b"\x00").num_bytes == 19


def test_a_footer_that_arrow_ends_the_process_for_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [b"1", None, b"22"])
    data = path.read_bytes()
    # The histogram of definition levels is a list of two numbers; now it has three.
    histogram, longer = b"\x19\x26\x02\x04", b"\x19\x36\x02\x04\x00"
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -length - 8], data[-length - 8 : -8]
    assert footer.count(histogram) == 1
    footer = footer.replace(histogram, longer)
    path.write_bytes(body + footer + (length + 1).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(BadContainer, match="histogram"):
        read(path)


def test_headers_that_cannot_be_read_leave_their_images_to_be_copied(
    root: Store, tmp_path: Path
) -> None:
    source = written(tmp_path / "a.parquet", list(PNGS), row_group_size=16)
    with patch.object(pages, "read_page_header", side_effect=IndexError):
        images = run(root, source)
    assert not any(in_place(images))
    assert shard_table(images, 0)["image"].to_pylist() == PNGS
