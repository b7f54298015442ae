"""Data of a training: targets as pairs, kinds of data sets, views, and batches prepared ahead."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, RowCounts
from tasks.gather import GatherOptions, gather
from tasks.images import Inputs, encode_png
from tasks.shard import IMAGE_BYTES, ShardOptions, shard
from tasks.train.augment_options import Augment
from tasks.train.data import BatchReader, Samples, Targets, open_samples
from tasks.train.data.order import SampleOrder
from tasks.train.data.samples import Part
from tasks.train.data.views import View
from tasks.train.options import TrainOptions
from tests.builders.sources import fill

CLASSES = ["blue", "green", "red"]
OPTIONS = TrainOptions(
    augment=Augment(crop_min_area=1), inputs=Inputs(size=16, resize=16, pixels="unit")
)
PNG = encode_png(np.zeros((16, 16, 3), np.uint8))


def publish(
    root: Store, stage: str, schema: pa.Schema, rows: list[dict[str, Any]], classes: list[str]
) -> Output:
    """An output of one part with these rows."""
    store = open_store(f"{root.uri}/{stage}/f")
    table = pa.Table.from_pylist(rows, schema=schema)
    counts = RowCounts(len(rows), len(rows), 0)
    facts = {IMAGE_BYTES: str(len(PNG) * len(rows))}
    receipt = contract.write_part(store, contract.part_name(0), table, counts, facts=facts)
    return contract.publish(
        store, Manifest(stage, "f", {}, {}, [receipt], 0.0, {"classes": classes})
    )


def lessons(root: Store, labels: list[list[int]], weights: list[list[float]]) -> Output:
    rows = [
        {"image_id": row, "image": PNG, "labels": labels[row], "weights": weights[row]}
        for row in range(len(labels))
    ]
    return publish(root, "gather", tables.LESSONS, rows, ["a", "b", "c"])


def pairs(targets: Targets) -> list[tuple[int, int, float]]:
    columns = (targets.rows_P, targets.classes_P, targets.weights_P)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(st.lists(st.dictionaries(st.integers(0, 4), st.floats(0, 1, width=32)), min_size=1))
def test_targets_of_a_batch_are_those_of_its_images(images: list[dict[int, float]]) -> None:
    samples = [
        (np.array(list(image), np.int64), np.array(list(image.values()), np.float32))
        for image in images
    ]
    targets = Targets.stack(samples)
    assert pairs(targets) == [
        (row, label, weight) for row, image in enumerate(images) for label, weight in image.items()
    ]
    for row, (classes, weights) in enumerate(samples):
        taken_classes, taken_weights = targets.take(row)
        assert taken_classes.tolist() == classes.tolist()
        assert taken_weights.tolist() == weights.tolist()


def test_lessons_have_weighted_classes__several_or_none(root: Store) -> None:
    output = lessons(root, [[2], [], [0, 1]], [[1.0], [], [0.25, 0.75]])
    part = open_samples(output, ["a", "b", "c"]).read_part(0)
    assert pairs(part.targets) == [(0, 2, 1.0), (2, 0, 0.25), (2, 1, 0.75)]


def test_classes_of_lessons_are_matched_by_name(root: Store) -> None:
    output = lessons(root, [[2], [0, 1]], [[1.0], [0.25, 0.75]])
    part = open_samples(output, ["c", "x", "b", "a"]).read_part(0)
    assert pairs(part.targets) == [(0, 0, 1.0), (1, 3, 0.25), (1, 2, 0.75)]
    with pytest.raises(ProtegeError, match="'c' is none of the classes"):
        open_samples(output, ["a", "b"])


def test_only_data_sets_with_images_can_be_trained_on(root: Store) -> None:
    with pytest.raises(ProtegeError, match="has no images to train on"):
        open_samples(lessons(root, [], []), ["a", "b", "c"])


@pytest.fixture
def samples(root: Store, pictures: Path) -> Samples:
    images = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    return open_samples(gather(root, images, options=GatherOptions(lessons_per_part=5)), CLASSES)


@pytest.mark.parametrize("crop_min_area", [0.3, 1])
def test_virtual_ranks_share_out_the_batch_of_one(samples: Samples, crop_min_area: float) -> None:
    options = OPTIONS.model_copy(update={"augment": Augment(crop_min_area=crop_min_area)})
    reader = BatchReader(samples, options, batch_size=8)
    # 12 images, so the second step reaches into the next epoch.
    for step in range(3):
        whole = reader.read(step, rank=0, num_ranks=1)
        shares = [reader.read(step, rank, num_ranks=2) for rank in range(2)]
        images = np.concatenate([share.images_BHWC for share in shares])
        assert np.array_equal(images, whole.images_BHWC)
        classes = np.concatenate([share.targets.classes_P for share in shares])
        assert classes.tolist() == whole.targets.classes_P.tolist()


def test_epoch_gives_every_sample_once(samples: Samples) -> None:
    reader = BatchReader(samples, OPTIONS, batch_size=4)
    batches = [reader.read(step, rank=0, num_ranks=1) for step in range(3)]
    images = {image.tobytes() for batch in batches for image in batch.images_BHWC}
    assert len(images) == sum(samples.part_rows) == 12


def test_random_crop_depends_on_the_position_and_the_seed_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    data = encode_png(noise)
    view = View(size=16, resize=16, crop_min_area=0.1, seed=1)
    assert not view.is_fixed
    assert np.array_equal(view.read(data, 5), view.read(data, 5))
    assert not np.array_equal(view.read(data, 5), view.read(data, 6))
    other_seed = View(size=16, resize=16, crop_min_area=0.1, seed=2)
    assert not np.array_equal(view.read(data, 5), other_seed.read(data, 5))
    fixed = View(size=16, resize=20, crop_min_area=1, seed=1)
    assert fixed.is_fixed
    assert np.array_equal(fixed.read(data, 5), fixed.read(data, 6))


@pytest.mark.parametrize("window", [1, 4])
def test_source_that_is_sorted_by_class_gives_batches_of_as_many_classes_as_independent_draws(
    root: Store, tmp_path: Path, window: int
) -> None:
    num_classes, images_per_class, batch_size = 50, 40, 40
    fill(
        tmp_path,
        *(f"{n:02d}/{at}.png" for n in range(num_classes) for at in range(images_per_class)),
    )
    images = shard(root, ShardOptions(source=str(tmp_path), labelled=True, images_per_shard=100))
    lessons = gather(root, images, options=GatherOptions(lessons_per_part=100))
    samples = open_samples(lessons, lessons.classes)
    order = SampleOrder(samples.part_rows, seed=0, window=window)
    classes = [samples.read_part(part).targets.classes_P for part in range(len(samples.part_rows))]
    counts = []
    for step in range(num_classes * images_per_class // batch_size):
        places = [order.place(step * batch_size + at) for at in range(batch_size)]
        counts.append(len({int(classes[part][row]) for part, row in places}))
    independent = num_classes * (1 - (1 - 1 / num_classes) ** batch_size)
    assert np.mean(counts) > 0.97 * independent
    assert min(counts) > 0.7 * independent


def test_a_process_reads_the_parts_of_its_own_streams_alone(samples: Samples) -> None:
    options = OPTIONS.model_copy(
        update={"batch_size": 4, "virtual_ranks": 2, "streams": 2, "shuffle_shards": 1}
    )
    read: dict[int, set[int]] = {0: set(), 1: set()}
    shares: dict[int, list[bytes]] = {}
    for rank in (0, 1):

        class Counted:
            uri, part_rows, part_bytes = samples.uri, samples.part_rows, samples.part_bytes
            own = read[rank]

            def read_part(self, part: int) -> Part:
                self.own.add(part)
                return samples.read_part(part)

        reader = BatchReader(Counted(), options, batch_size=4)
        # The first step needs one window of each stream, and the next one is read meanwhile.
        shares[rank] = [image.tobytes() for image in reader.read(0, rank, 2).images_BHWC]
        reader._parts._pool.shutdown()
    assert len(samples.part_rows) == 3
    assert len(read[0] & read[1]) <= 1  # that of the shorter stream's next epoch
    whole = BatchReader(samples, options, batch_size=4)
    for rank in (0, 1):
        assert [image.tobytes() for image in whole.read(0, rank, 2).images_BHWC] == shares[rank]


def test_batches_that_are_begun_together_are_those_that_are_read_one_by_one(
    samples: Samples,
) -> None:
    # With a window of one part, the reader forgets what the first of these batches need.
    options = OPTIONS.model_copy(update={"shuffle_shards": 1})
    one_by_one, together = (BatchReader(samples, options, batch_size=8) for _ in range(2))
    begun = [together.begin(step, rank=0, num_ranks=1) for step in range(6)]
    for step, finish in enumerate(begun):
        expected, found = one_by_one.read(step, rank=0, num_ranks=1), finish()
        assert np.array_equal(found.images_BHWC, expected.images_BHWC)
        assert found.targets.classes_P.tolist() == expected.targets.classes_P.tolist()


@pytest.mark.parametrize("stands_back", [False, True])
def test_images_are_decoded_with_less_priority_beside_a_network_on_the_same_cores(
    samples: Samples, stands_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    seen: set[int] = set()
    read_again = View.read_again

    def observed(view: View, *of: Any) -> Any:
        seen.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return read_again(view, *of)

    monkeypatch.setattr(View, "read_again", observed)
    BatchReader(samples, OPTIONS, batch_size=4, stands_back=stands_back).read(0, 0, 1)
    assert {niceness > own for niceness in seen} == {stands_back}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_streams_must_share_out_the_virtual_ranks() -> None:
    with pytest.raises(ValueError, match=r"multiple of streams \(3\)"):
        TrainOptions(batch_size=8, virtual_ranks=4, streams=3)
