"""topk against ten lines of brute force, in any order and grouping of the parts."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.cluster import Cluster, Inline
from infra.errors import ProtegeError
from infra.storage import Store, open_store
from tasks import contract, tables
from tasks.contract import Counts, Manifest, Output
from tasks.score import _scores_table
from tasks.topk import CHOSEN, CLASSES, TopkOptions, read_chosen, read_classes, topk

Row = tuple[int, list[int], list[float]]  # image_id, labels, log_odds


def scores_of(root: Store, parts: Sequence[Sequence[Row]], classes: int, top_p: int) -> Output:
    """A finished `scores` output with these rows."""
    store = open_store(f"{root.uri}/score/{contract.digest_of(repr(parts))}")
    receipts = []
    for number, rows in enumerate(parts):
        ids = np.array([row[0] for row in rows], np.int64)
        labels = np.array([row[1] for row in rows], np.uint16).reshape(len(rows), top_p)
        log_odds = np.array([row[2] for row in rows], np.float32).reshape(len(rows), top_p)
        table = _scores_table(ids, labels, log_odds)
        counts = Counts(len(rows), len(rows), 0)
        receipts.append(contract.write_part(store, contract.part_name(number), table, counts))
    names = [f"class-{label}" for label in range(classes)]
    extra = {"classes": names, "top_p": top_p}
    return contract.publish(store, Manifest("score", "f", {}, {}, receipts, 0.0, extra))


def brute_force(rows: Sequence[Row], classes: int, k: int, top_p: int) -> list[tuple[int, int]]:
    """(label, image_id) of the K best of each class, in the total order."""
    chosen = []
    for label in range(classes):
        candidates = [
            (-np.float32(log_odds), image_id)
            for image_id, labels, values in rows
            for one, log_odds in list(zip(labels, values))[:top_p]
            if one == label
        ]
        chosen += [(label, image_id) for _, image_id in sorted(candidates)[:k]]
    return chosen


@st.composite
def score_rows(draw: st.DrawFn) -> tuple[list[Row], int, int]:
    """Rows with many ties; every class has a candidate."""
    classes = draw(st.integers(2, 5))
    top_p = draw(st.integers(1, classes))
    count = draw(st.integers(classes, 24))
    values = st.sampled_from([-3.0, -0.0, 0.0, 0.5, 0.5, 1e-40, 7.25, 1e30])
    rows = []
    for image_id in range(count):
        first = image_id % classes  # so that no class is without a candidate
        others = draw(st.permutations([c for c in range(classes) if c != first]))
        labels = [first, *others][:top_p]
        log_odds = sorted(draw(st.lists(values, min_size=top_p, max_size=top_p)), reverse=True)
        rows.append((image_id, labels, log_odds))
    return rows, classes, top_p


@given(score_rows(), st.integers(1, 9), st.integers(1, 6), st.randoms())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_chosen_is_the_brute_force_for_any_grouping_and_order(
    tmp_path_factory: pytest.TempPathFactory, drawn, k: int, groups: int, random
) -> None:
    rows, classes, top_p = drawn
    root = open_store(str(tmp_path_factory.mktemp("topk")))
    shuffled = list(rows)
    random.shuffle(shuffled)
    parts = [shuffled[at::groups] for at in range(groups)]
    scores = scores_of(root, parts, classes, top_p)
    chosen = read_chosen(topk(root, TopkOptions(k=k, top_p=top_p), scores, Inline()))
    found = list(zip(chosen["label"].to_pylist(), chosen["image_id"].to_pylist()))
    assert found == brute_force(rows, classes, k, top_p)
    ranks = [list(group) for _, group in itertools.groupby(found, key=lambda pair: pair[0])]
    expected = [rank for group in ranks for rank in range(len(group))]
    assert chosen["rank"].to_pylist() == expected


def _random_rows(count: int, classes: int, top_p: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for image_id in range(count):
        labels = rng.permutation(classes)[:top_p].tolist()
        log_odds = np.sort(rng.integers(-8, 8, top_p) / 2)[::-1].tolist()
        rows.append((image_id, labels, log_odds))
    return rows


@pytest.mark.parametrize("mode", ["per_class", "random_per_class"])
def test_bytes_are_the_same_for_any_parts_and_any_workers(
    root: Store, cluster: Cluster, mode: str
) -> None:
    rows = _random_rows(600, classes=7, top_p=4, seed=1)
    options = TopkOptions(k=30, top_p=3, mode=mode)
    files = set()
    for number, (parts, executor) in enumerate(
        [(1, Inline()), (5, Inline()), (13, cluster), (40, cluster)]
    ):
        order = np.random.default_rng(number).permutation(len(rows))
        grouped = [[rows[at] for at in piece] for piece in np.array_split(order, parts)]
        place = open_store(f"{root.uri}/{number}")
        output = topk(place, options, scores_of(place, grouped, 7, 4), executor)
        files.add((output.store.read(CHOSEN), output.store.read(CLASSES)))
    assert len(files) == 1


def test_class_is_certified_only_when_nothing_cut_off_could_rank(root: Store) -> None:
    sure = [(image_id, [0, 1], [3.0, -3.0]) for image_id in range(4)]
    unsure = [(10 + image_id, [1, 2], [-0.9, -1.0]) for image_id in range(4)]
    third = [(20, [2, 0], [1.0, -5.0])]
    scores = scores_of(root, [sure + unsure + third], classes=3, top_p=2)
    table = read_classes(topk(root, TopkOptions(k=3, top_p=2), scores, Inline()))
    # K reached at p > 1/3; K reached at p = 0.29 < 1/3; K reached but at log-odds of -1.
    assert table["certified"].to_pylist() == [True, False, False]
    complete = scores_of(root, [[(1, [0, 1], [1.0, -1.0]), (2, [1, 0], [1.0, -1.0])]], 2, 2)
    table = read_classes(topk(root, TopkOptions(k=9, top_p=2), complete, Inline()))
    assert table["certified"].to_pylist() == [True, True]  # P is every class: nothing was cut off


def test_class_without_a_candidate_is_named(root: Store) -> None:
    scores = scores_of(root, [[(1, [0], [1.0])]], classes=2, top_p=1)
    with pytest.raises(ProtegeError, match="class-1"):
        topk(root, TopkOptions(k=1, top_p=1), scores, Inline())


def test_more_classes_than_were_scored_cannot_be_asked_for(root: Store) -> None:
    scores = scores_of(root, [_random_rows(9, 3, 1, 0)], classes=3, top_p=1)
    with pytest.raises(ProtegeError, match=r"raise score\.top_p"):
        topk(root, TopkOptions(k=1, top_p=2), scores, Inline())


def test_torn_part_is_named(root: Store) -> None:
    scores = scores_of(root, [_random_rows(50, 3, 2, 0)], classes=3, top_p=2)
    data = scores.store.read("part-00000.parquet")
    scores.store.replace("part-00000.parquet", data[: len(data) // 2])
    with pytest.raises(ProtegeError, match=r"part-00000\.parquet cannot be read"):
        topk(root, TopkOptions(k=1, top_p=2), scores, Inline())


def test_random_choice_takes_only_images_whose_best_class_it_is(root: Store) -> None:
    rows = _random_rows(300, classes=4, top_p=3, seed=3)
    scores = scores_of(root, [rows], 4, 3)
    options = TopkOptions(k=20, top_p=3, mode="random_per_class", seed=1)
    chosen = read_chosen(topk(root, options, scores, Inline()))
    best = {image_id: labels[0] for image_id, labels, _ in rows}
    pairs = list(zip(chosen["image_id"].to_pylist(), chosen["label"].to_pylist()))
    assert len(pairs) == 80
    assert all(best[image_id] == label for image_id, label in pairs)
    other = read_chosen(topk(root, options.model_copy(update={"seed": 2}), scores, Inline()))
    assert other["image_id"].to_pylist() != chosen["image_id"].to_pylist()


def test_schema_of_chosen_is_the_declared_one(root: Store) -> None:
    scores = scores_of(root, [_random_rows(30, 3, 2, 0)], 3, 2)
    assert read_chosen(topk(root, TopkOptions(k=2, top_p=2), scores, Inline())).schema.equals(
        tables.CHOSEN
    )
