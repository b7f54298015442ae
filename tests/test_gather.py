"""gather: lessons in a global order that depends on nothing but the choice and the seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.errors import ProtegeError
from infra.executors import Cluster, Executor, Inline
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.score import ScoreOptions, score
from tasks.shard import ShardOptions, read_keys, shard
from tasks.topk import TopkOptions, topk
from tests.builders.chosen import chosen_of
from tests.builders.models import colour_model
from tests.builders.shards import shard_table
from tests.builders.sources import fill

SOFT = GatherOptions(pseudo_labels="soft")

# (image row, label): the first image is chosen for three classes.
PAIRS = [(0, 0), (0, 1), (0, 2), (4, 0), (9, 1), (13, 2), (20, 1), (33, 0), (47, 2), (59, 1)]


def lessons(
    root: Store, pictures: Path, executor: Executor = Inline(), size: int = 8, **options: Any
) -> pa.Table:
    source = ShardOptions(source=str(pictures / "pile"), images_per_shard=size)
    images = shard(root, source)
    chosen = chosen_of(root, images, PAIRS)
    output = gather(root, images, chosen, GatherOptions(**options), executor=executor)
    assert not output.store.sizes("spills")
    return contract.read_rows(output, tables.LESSONS)


def test_replicate_gives_a_lesson_for_each_choice(root: Store, pictures: Path) -> None:
    table = lessons(root, pictures)
    assert len(table) == len(PAIRS)
    assert all(len(labels) == 1 for labels in table["labels"].to_pylist())
    first = table["image_id"].to_pylist().count(0)
    assert first == 3


def test_share_gives_each_image_once_with_weights_that_sum_to_one(
    root: Store, pictures: Path
) -> None:
    table = lessons(root, pictures, multi_label="share")
    assert len(table) == len({place for place, _ in PAIRS})
    for labels, weights in zip(table["labels"].to_pylist(), table["weights"].to_pylist()):
        assert len(labels) == len(weights)
        assert sum(weights) == pytest.approx(1)
    shared = dict(zip(table["image_id"].to_pylist(), table["labels"].to_pylist()))
    assert shared[0] == [0, 1, 2]


def test_sample_one_takes_one_of_the_classes_by_seed(root: Store, pictures: Path) -> None:
    picked = set()
    for seed in range(8):
        table = lessons(root, pictures, multi_label="sample_one", seed=seed)
        labels = dict(zip(table["image_id"].to_pylist(), table["labels"].to_pylist()))
        assert len(labels[0]) == 1
        picked.add(labels[0][0])
    assert picked == {0, 1, 2}


def test_lessons_hold_the_images_that_were_chosen(root: Store, pictures: Path) -> None:
    table = lessons(root, pictures)
    images = shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=8))
    for image_id, image in zip(table["image_id"].to_pylist(), table["image"].to_pylist()):
        rows = shard_table(images, image_id >> 32, only=np.array([image_id]))
        assert rows["image"].to_pylist() == [image]


def test_bytes_do_not_depend_on_the_executor(
    tmp_path: Path, pictures: Path, cluster: Cluster
) -> None:
    here = lessons(open_store(str(tmp_path / "a")), pictures, lessons_per_part=3)
    there = lessons(open_store(str(tmp_path / "b")), pictures, cluster, lessons_per_part=3)
    assert here.equals(there)


def test_order_is_shuffled_and_decided_by_the_seed(root: Store, pictures: Path) -> None:
    orders = [
        tuple(lessons(root, pictures, seed=seed)["image_id"].to_pylist()) for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != tuple(sorted(orders[0]))


def test_parts_are_pieces_of_one_order(root: Store, pictures: Path) -> None:
    whole = lessons(root, pictures)
    pieces = lessons(root, pictures, lessons_per_part=3)
    assert whole.equals(pieces.combine_chunks())


def labelled(root: Store, folder: Path, *names: str, **options: bool) -> Output:
    return shard(root, ShardOptions(source=str(fill(folder, *names)), labelled=True, **options))


def test_labelled_images_are_gathered_with_their_classes(root: Store, tmp_path: Path) -> None:
    images = labelled(root, tmp_path, "red/1.png", "blue/2.png", "red/3.png")
    classes = {row["key"]: row["label"] for row in images.table("images").to_pylist()}
    lessons = gather(root, images)
    assert lessons.classes == ["blue", "red"]
    keys = read_keys(images, lessons.table("lessons")["image_id"].to_numpy())
    rows = lessons.table("lessons").to_pylist()
    for key, row in zip(keys, rows, strict=True):
        assert [lessons.classes[label] for label in row["labels"]] == [classes[key]]
        assert row["weights"] == [1.0]
    other_order = gather(root, images, classes=["red", "green", "blue"])
    assert other_order.classes == ["red", "green", "blue"]
    assert set(other_order.table("lessons")["labels"].to_pylist()[0]) <= {0, 2}


def test_labelled_images_need_a_class_that_is_known(root: Store, tmp_path: Path) -> None:
    images = labelled(root, tmp_path / "a", "red/1.png", "teal/2.png")
    with pytest.raises(ProtegeError, match="'teal' is none of the classes"):
        gather(root, images, classes=["blue", "red"])
    unlabelled = shard(root, ShardOptions(source=str(tmp_path / "a")))
    with pytest.raises(ProtegeError, match="an image without a class: put every image into"):
        gather(root, unlabelled, classes=["blue", "red"])


def test_images_that_were_not_chosen_from_are_refused(root: Store, pictures: Path) -> None:
    pile = shard(root, ShardOptions(source=str(pictures / "pile")))
    other = shard(root, ShardOptions(source=str(pictures / "test")))
    chosen = topk(root, score(root, pile, colour_model(root)), TopkOptions(k=2, top_p=1))
    assert gather(root, pile, chosen).kept == 6
    with pytest.raises(ProtegeError, match="has other images than those that"):
        gather(root, other, chosen)


def test_share_of_each_class_is_the_same_for_any_shard_size_and_part_of_a_larger_one(
    root: Store, tmp_path: Path
) -> None:
    names = [f"{label}/{number}.png" for label in ("red", "blue") for number in range(20)]
    source = str(fill(tmp_path / "source", *names, "green/one.png"))

    def taken(percent: float, seed: int = 0, size: int = 100) -> set[str]:
        images = shard(root, ShardOptions(source=source, labelled=True, images_per_shard=size))
        output = gather(root, images, None, GatherOptions(percent_of_class=percent, seed=seed))
        subset = output.table("subset").to_pylist()
        assert {row["image_id"] for row in subset} == {
            row["image_id"] for row in output.table("lessons").to_pylist()
        }
        keys = {row["key"] for row in subset}
        assert all(row["key"].startswith(f"{row['label']}/") for row in subset)
        return keys

    few, more = taken(10), taken(25)
    assert {label: sum(key.startswith(label) for key in few) for label in ("red", "blue")} == {
        "red": 2,
        "blue": 2,
    }
    assert "green/one.png" in few
    assert few < more
    assert taken(10, size=7) == few
    assert taken(10, seed=1) != few


def test_without_classes_every_image_is_a_lesson_that_teaches_none(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=16))
    output = gather(root, images, classes=[], options=GatherOptions(lessons_per_part=20))
    rows = output.table("lessons").to_pylist()
    assert len(rows) == images.kept == output.kept
    assert all(row["labels"] == row["weights"] == [] for row in rows)
    ids = [row["image_id"] for row in rows]
    assert ids != sorted(ids)
    assert output.classes == []


def test_soft_labels_are_the_probabilities_of_the_scores(root: Store, pictures: Path) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=16))
    scores = score(root, images, colour_model(root), ScoreOptions(top_p=3))
    options = TopkOptions(k=25, mode="threshold_balance", threshold=0.01)
    chosen = topk(root, scores, options)
    lessons = gather(root, images, chosen, SOFT, scores=scores)
    hard = gather(root, images, chosen, scores=scores)
    assert hard.digest == gather(root, images, chosen).digest
    rows = lessons.table("lessons").to_pylist()
    # The same images, as often and in the same order: a short class repeats them.
    assert [row["image_id"] for row in rows] == hard.table("lessons")["image_id"].to_pylist()
    assert len(rows) > len({row["image_id"] for row in rows})
    scored = {row["image_id"]: row for row in scores.table("scores").to_pylist()}
    for row in rows:
        of_image = scored[row["image_id"]]
        assert row["labels"] == [of_image[f"label_{rank}"] for rank in range(3)]
        log_odds = np.array([of_image[f"log_odds_{rank}"] for rank in range(3)])
        # Of three classes, all three are scored, so these are the whole softmax.
        assert row["weights"] == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-5)
        assert sum(row["weights"]) == pytest.approx(1)


def test_soft_labels_without_scores_or_of_other_classes_are_refused(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=16))
    scores = score(root, images, colour_model(root))
    chosen = chosen_of(root, images, PAIRS)
    with pytest.raises(ProtegeError, match="give the scores"):
        gather(root, images, chosen, SOFT)
    with pytest.raises(ProtegeError, match="has other classes"):
        gather(root, images, chosen, SOFT, scores=scores)


def test_training_set_of_labelled_images_is_the_same_however_others_are_labelled(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    assert gather(root, images, options=SOFT).digest == gather(root, images).digest
