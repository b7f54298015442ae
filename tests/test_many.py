"""Many: images and keys that are scattered over shards, in any order and more than once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import open_store
from tasks.contract import Output
from tasks.shard import ShardOptions, find_keys, read_keys, read_many, shard
from tests.builders.pictures import write_folder

PER_SHARD, SHARDS = 7, 9


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Output:
    """Nine shards of seven images."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    write_folder(folder / "in", rng, per_class=PER_SHARD * SHARDS // 3, labelled=False)
    options = ShardOptions(source=str(folder / "in"), images_per_shard=PER_SHARD)
    return shard(open_store(str(folder / "root")), options)


PLACES = st.lists(st.integers(0, PER_SHARD * SHARDS - 1), max_size=40)


@given(PLACES, st.sets(st.integers(0, PER_SHARD * SHARDS - 1)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_keys_and_images_are_those_of_the_ids(
    images: Output, places: list[int], wanted: set[int]
) -> None:
    rows = images.table("images", ["image_id", "key", "image"]).sort_by("image_id")
    ids = rows["image_id"].to_numpy()[np.array(places, int)]
    keys, data = rows["key"].to_pylist(), rows["image"].to_pylist()
    assert read_keys(images, ids) == [keys[place] for place in places]
    assert list(read_many(images, ids)) == [
        (rows["image_id"][place].as_py(), data[place]) for place in sorted(set(places))
    ]
    assert find_keys(images, ids, {keys[place] for place in wanted} | {"no key"}) == {
        rows["image_id"][place].as_py(): keys[place] for place in wanted & set(places)
    }


def test_shard_that_is_gone_is_said_by_its_name(images: Output) -> None:
    ids = images.table("images", ["image_id"])["image_id"].to_numpy()
    part = Path(images.uri) / "part-00004.parquet"
    data = part.read_bytes()
    part.unlink()
    try:
        with pytest.raises(ProtegeError, match=r"part-00004\.parquet cannot be read"):
            list(read_many(images, ids))
    finally:
        part.write_bytes(data)
