"""The demo's data: what the story says, and nothing that gives it away."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.demo.digits import bad_cell, split_digits, write_digits
from flows.demo.seeds import verdict


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder, seed=3)
    return folder


def read_truth(data: Path) -> list[dict[str, str]]:
    with (data / "pile-truth.csv").open() as file:
        return list(csv.DictReader(file))


def test_folders_hold_what_the_story_says(data: Path) -> None:
    for digit in range(10):
        assert len(list((data / "labelled" / str(digit)).iterdir())) == 5
        assert len(list((data / "test" / str(digit)).iterdir())) == 100
    pile = sorted(path.name for path in (data / "pile").iterdir())
    assert len(pile) == 11_950
    truth = {row["key"]: row["label"] for row in read_truth(data)}
    assert sorted(truth) == pile
    assert list(truth.values()).count("badly cut") == 8_000
    with Image.open(data / "pile" / pile[0]) as image:
        assert image.size == (28, 28)


def test_names_say_nothing_about_what_is_in_them(data: Path) -> None:
    truth = read_truth(data)
    ordered = [row["label"] == "badly cut" for row in sorted(truth, key=lambda row: row["key"])]
    first, second = np.array_split(np.array(ordered), 2)
    assert abs(first.mean() - second.mean()) < 0.05


def test_no_digit_is_in_two_parts_and_the_test_set_is_the_same_for_every_seed() -> None:
    labels = np.repeat(np.arange(10), 500)
    splits = [split_digits(labels, seed) for seed in (0, 1)]
    for split in splits:
        parts = [set(split.labelled), set(split.test), set(split.unlabelled)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5000
    assert np.array_equal(splits[0].test, splits[1].test)
    assert not np.array_equal(splits[0].labelled, splits[1].labelled)


def test_badly_cut_cell_misses_every_true_cell_by_at_least_8_pixels() -> None:
    rng = np.random.default_rng(0)
    # Each cell is a constant, so the picture says where the window lay.
    four = np.repeat([10, 20, 30, 40], 28 * 28).astype(np.uint8).reshape(4, 28, 28)
    for _ in range(200):
        cell = bad_cell(four, rng)
        assert cell.shape == (28, 28)
        share = np.bincount(cell.ravel(), minlength=41)[[10, 20, 30, 40]].max() / cell.size
        assert share <= 20 / 28


def test_verdict_compares_means_and_counts_wins() -> None:
    rows = [
        {"seed": 0, "student_top1": 0.96, "baseline_top1": 0.92, "random_top1": 0.95},
        {"seed": 1, "student_top1": 0.94, "baseline_top1": 0.88, "random_top1": 0.94},
    ]
    lines = verdict(rows)
    assert "cuts the mean error by 50.0% and wins in 2 of 2" in lines[0]
    assert "+0.0050" in lines[1]
