"""Fashion: tables of photographs with few labels, made of files in their authors' format."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.errors import ProtegeError
from tests.bench import fashion
from tests.bench.fashion import CLASSES, OTHERS, WORDS, read_photographs, write_fashion

NUM_TRAIN, NUM_TEST = 3_000, 50


def write_idx(folder: Path, part: str, count: int) -> None:
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, count * 28 * 28, dtype=np.uint8).tobytes()
    labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
    for kind, data in (("images-idx3", bytes(16) + pixels), ("labels-idx1", bytes(8) + labels)):
        (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(data, compresslevel=1))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fashion")
    write_idx(folder, "train", NUM_TRAIN)
    write_idx(folder, "t10k", NUM_TEST)
    return folder


def keys_of(folder: Path) -> set[str]:
    with (folder / "pile-truth.csv").open() as file:
        return {row["key"].rpartition("/")[2] for row in csv.DictReader(file)}


def test_labelled_pile_and_test_set_share_no_photograph(place: Path, tmp_path: Path) -> None:
    write_fashion(place, tmp_path, seed=0, num_labels=100)
    labelled = pq.read_table(tmp_path / "labelled" / "labelled.parquet")
    assert labelled["label"].value_counts().to_pylist() == [
        {"values": name, "counts": 10} for name in CLASSES
    ]
    pile = pq.read_table(tmp_path / "pile")
    assert pile.column_names == ["image", "key", "tags"], "it does not tell the classes"
    assert len(pile) == NUM_TRAIN - 100
    assert not set(labelled["image"].to_pylist()) & set(pile["image"].to_pylist())
    assert len(pq.read_table(tmp_path / "test")) == NUM_TEST
    assert keys_of(tmp_path) == set(pile["key"].to_pylist())


def test_words_are_beside_some_and_the_same_for_a_seed(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_fashion(place, tmp_path / name, seed=1, num_labels=100)
    tags = [pq.read_table(tmp_path / name / "pile")["tags"].to_pylist() for name in ("a", "b")]
    assert tags[0] == tags[1]
    known = {word for words in WORDS.values() for word in words} | set(OTHERS)
    assert {word for words in tags[0] for word in words} <= known
    named = [words for words in tags[0] if set(words) - set(OTHERS)]
    assert 0.4 < len(named) / len(tags[0]) < 0.6
    table = (tmp_path / "a" / "tags.csv").read_text().splitlines()
    assert "jacket,coat" in table
    assert "jacket,pullover" in table


def test_tuning_seeds_test_on_photographs_that_are_not_for_testing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "HELD_OUT", 200)
    write_fashion(place, tmp_path, seed=100, num_labels=100)
    held_out = set(pq.read_table(tmp_path / "test")["image"].to_pylist())
    assert len(held_out) == 200
    assert not held_out & set(pq.read_table(tmp_path / "pile")["image"].to_pylist())


def test_files_that_are_not_there_or_do_not_fit_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        read_photographs(tmp_path, "train")
    write_idx(tmp_path, "train", 10)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8 + 9)))
    with pytest.raises(ProtegeError, match="train has 9 labels for other photographs"):
        read_photographs(tmp_path, "train")
