"""exchange: lessons by way of buckets are the same as without them, in few requests."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.store import Store, open_store
from tasks import contract
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.gather import plan as planning
from tasks.gather import spills as spilling
from tasks.gather import taken as taking
from tasks.gather.exchange import index_name, read_segments, write_segments
from tasks.gather.plan import Plan, make_plan
from tasks.gather.spills import STAYING_BYTES, images_stay
from tasks.shard import ShardOptions, shard
from tests.builders.chosen import chosen_of

PAIRS = [(place, place % 3) for place in range(60)] + [(place, 0) for place in range(1, 60, 7)]
OPTIONS = GatherOptions(lessons_per_part=3)


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def images(root: Store, pictures: Path) -> Output:
    return shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=4))


def parts_of(output: Output) -> list[str]:
    digests: list[str] = [part["digest"] for part in output.body["parts"]]
    return digests


@pytest.mark.parametrize("fan_out", [1, 4])
@pytest.mark.parametrize("spill_bytes", [1, 1 << 20])
@pytest.mark.parametrize("stays", [True, False])
def test_lessons_are_the_same_by_any_way_through_the_exchange(
    root: Store,
    images: Output,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fan_out: int,
    spill_bytes: int,
    stays: bool,
) -> None:
    chosen = chosen_of(root, images, PAIRS)
    direct = gather(root, images, chosen, OPTIONS)
    assert direct.kept == len(PAIRS)
    monkeypatch.setattr(planning, "MAX_FAN_OUT", fan_out)
    monkeypatch.setattr(planning, "SPILL_BYTES", spill_bytes)
    monkeypatch.setattr(taking, "ROUND_ROWS", 7)
    monkeypatch.setattr(spilling, "images_stay", lambda _places: stays)
    other = open_store(str(tmp_path / "other"))
    assert parts_of(gather(other, images, chosen, OPTIONS)) == parts_of(direct)


@pytest.mark.parametrize(
    ("uris", "sizes", "codecs", "stays"),
    [
        (["/pile/part-00000.parquet", "/pile/a.tar"], [10, 10], [None, None], True),
        (["/pile/a.tar", "s3://b/a.tar"], [10, 10], [None, None], False),
        (["s3://b/a.tar"] * 2, [STAYING_BYTES - 10, STAYING_BYTES + 10], [None, None], True),
        (["/pile/a.parquet"] * 2, [STAYING_BYTES, STAYING_BYTES], [None, "zstd"], False),
    ],
)
def test_images_stay_where_a_request_costs_less_than_the_exchange(
    uris: list[str], sizes: list[int], codecs: list[str | None], stays: bool
) -> None:
    places = pa.table({"uri": uris, "size": sizes, "page_codec": pa.array(codecs, pa.string())})
    assert images_stay(places) == stays


def test_rows_of_a_segment_are_read_and_no_others(root: Store) -> None:
    tables = [(3, pa.table({"a": [1, 2]})), (0, pa.table({"a": [5]})), (3, pa.table({"a": [7]}))]
    receipt = write_segments(root, "x", tables, {"images": "4"})
    assert (receipt.kept, receipt.facts) == (4, {"images": "4"})
    for segment, expected in ((0, [[5]]), (1, []), (3, [[1, 2], [7]])):
        found = read_segments(root, "x", segment)
        assert [table["a"].to_pylist() for table in found] == expected


def test_a_file_of_segments_without_its_index_is_none(root: Store) -> None:
    def broken() -> Iterator[tuple[int, pa.Table]]:
        yield 0, pa.table({"a": [1]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_segments(root, "x", broken())
    assert not root.exists(index_name("x"))
    assert not root.sizes()


@pytest.mark.parametrize("num_parts", [1, 3, 256, 27_000])
def test_every_lesson_has_a_part_and_parts_are_of_one_size(num_parts: int) -> None:
    plan = Plan(num_parts, math.ceil(math.sqrt(num_parts)), [[0]])
    order = np.random.default_rng(0).integers(0, 2**64, 1_000_000, np.uint64)
    order[:2] = 0, 2**64 - 1
    parts = plan.part_of(order)
    assert parts[0] == 0
    assert parts[1] == num_parts - 1
    counts = np.bincount(parts, minlength=num_parts)
    assert len(counts) == num_parts
    expected = len(order) / num_parts
    assert np.all(np.abs(counts - expected) < 6 * math.sqrt(expected) + 6)
    buckets = plan.bucket_of(np.arange(num_parts))
    assert np.all(np.diff(buckets) >= 0)
    assert buckets[-1] == plan.num_buckets - 1
    assert np.bincount(buckets).max() <= math.ceil(num_parts / plan.num_buckets)


def test_a_billion_images_meet_in_bounded_fan_in_and_fan_out(
    images: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 million lessons of 110 KB out of 100,000 shards, as the goal of the stage says."""
    shards, lessons, size = 100_000, 64_000_000, 110_000
    part = {"kept": 10_000, "facts": {"image_bytes": str(10_000 * size)}}
    names = [contract.part_name(number) for number in range(shards)]

    monkeypatch.setattr(Output, "body", {"parts": [{"name": name, **part} for name in names]})
    counts = dict.fromkeys(range(shards), lessons // shards)
    plan = make_plan(counts, images, GatherOptions())
    spills, merges = len(plan.groups), plan.num_blocks * plan.num_buckets
    assert max(plan.num_buckets, plan.block_size, plan.num_blocks) < 200
    requests = merges * plan.block_size + plan.num_parts * plan.num_blocks + 2 * spills
    bound = 4 * (shards + plan.num_parts) * math.log2(shards + plan.num_parts)
    assert requests < bound


def test_few_lessons_of_many_shards_go_to_many_workers(
    images: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard is a footer to read, however few of its images are chosen."""
    names = [contract.part_name(number) for number in range(100_000)]
    part = {"kept": 20, "facts": {"image_bytes": "20000"}}
    monkeypatch.setattr(Output, "body", {"parts": [{"name": name, **part} for name in names]})
    plan = make_plan(dict.fromkeys(range(100_000), 2), images, GatherOptions())
    assert [len(group) for group in plan.groups] == [1_000] * 100
    assert [shard for group in plan.groups for shard in group] == list(range(100_000))
