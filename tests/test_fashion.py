"""Fashion: tables of photographs with few labels, made of files in their authors' format."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.demo import prepare_fashion
from flows.demo.fashion import CLASSES, WORDS, read_photographs, write_fashion
from flows.demo.folders import whole_folder
from flows.demo.words import Words
from infra.errors import ProtegeError
from tests.bench import tuning_fashion
from tests.bench.fashion import cells, summary, table
from tests.bench.tuning_fashion import write_tuning_fashion

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
    data = tmp_path / "data"
    write_fashion(place, data, seed=0, num_labels=100)
    labelled = pq.read_table(data / "labelled" / "labelled.parquet")
    assert labelled["label"].value_counts().to_pylist() == [
        {"values": name, "counts": 10} for name in CLASSES
    ]
    pile = pq.read_table(data / "pile")
    assert pile.column_names == ["image", "key", "tags"], "it does not tell the classes"
    assert len(pile) == NUM_TRAIN - 100
    assert not set(labelled["image"].to_pylist()) & set(pile["image"].to_pylist())
    assert len(pq.read_table(data / "test")) == NUM_TEST
    assert keys_of(data) == set(pile["key"].to_pylist())


def test_writing_that_is_broken_off_leaves_nothing_of_its_name(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off() -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Words, "table", lambda _self: break_off())
        with pytest.raises(KeyboardInterrupt):
            write_fashion(place, tmp_path / "data", seed=0, num_labels=100)
    assert not list(tmp_path.iterdir())
    write_fashion(place, tmp_path / "data", seed=0, num_labels=100)
    with whole_folder(tmp_path / "data") as second:
        (second / "other").touch()
    assert not (tmp_path / "data" / "other").exists(), "the first one's is kept"


def test_words_are_beside_some_and_the_same_for_a_seed(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_fashion(place, tmp_path / name, seed=1, num_labels=100)
    tags = [pq.read_table(tmp_path / name / "pile")["tags"].to_pylist() for name in ("a", "b")]
    assert tags[0] == tags[1]
    known = {word for words in WORDS.names.values() for word in words} | set(WORDS.others)
    assert {word for words in tags[0] for word in words} <= known
    named = [words for words in tags[0] if set(words) - set(WORDS.others)]
    assert 0.4 < len(named) / len(tags[0]) < 0.6
    table = (tmp_path / "a" / "tags.csv").read_text().splitlines()
    assert "jacket,coat" in table
    assert "jacket,pullover" in table


def test_tuning_seeds_test_on_photographs_that_are_not_for_testing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_fashion, "HELD_OUT", 200)
    data = tmp_path / "data"
    write_tuning_fashion(place, data, seed=100, num_labels=100)
    held_out = set(pq.read_table(data / "test")["image"].to_pylist())
    assert len(held_out) == 200
    assert not held_out & set(pq.read_table(data / "pile")["image"].to_pylist())


def test_files_that_are_not_there_or_do_not_fit_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        read_photographs(tmp_path, "train")
    write_idx(tmp_path, "train", 10)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8 + 9)))
    with pytest.raises(ProtegeError, match="train has 9 labels for other photographs"):
        read_photographs(tmp_path, "train")
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(bytes(8) + bytes([0, 11] * 5)))
    with pytest.raises(ProtegeError, match="train has a class 11"):
        read_photographs(tmp_path, "train")
    whole = gzip.compress(bytes(18))
    for damaged in (b"", whole[:12] + b"\xff\xff" + whole[14:], whole[:15], b"no gzip"):
        labels.write_bytes(damaged)
        with pytest.raises(ProtegeError, match=r"train-labels-idx1-ubyte\.gz cannot be read"):
            read_photographs(tmp_path, "train")


@pytest.mark.parametrize("num_labels", [0, 15, 3_010])
def test_labels_that_cannot_be_drawn_equally_are_refused(
    place: Path, tmp_path: Path, num_labels: int
) -> None:
    with pytest.raises(ProtegeError, match=f"{num_labels:,} labels cannot be drawn equally"):
        write_fashion(place, tmp_path / "data", seed=0, num_labels=num_labels)


def test_demo_takes_the_files_from_a_folder(place: Path, tmp_path: Path) -> None:
    options = prepare_fashion(tmp_path, seed=2, source=place)
    assert options.labelled.source == str(tmp_path / "seed-2" / "labelled")
    assert len(pq.read_table(options.labelled.source)) == 1_000
    assert not (tmp_path / "package").exists()


def test_demo_without_debian_says_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProtegeError, match=r"cannot be fetched: .* as --source"):
        prepare_fashion(tmp_path, seed=0)


def test_table_has_each_recipe_beside_its_own_baseline() -> None:
    wanted = list(cells([100, 60_000], ["simclr-v2"], [0, 1]))
    assert [(cell["labels"], cell["recipe"]) for cell in wanted[:2]] == [
        (100, "simclr-v2"),
        (60_000, "supervised"),
    ]
    students = [{"teacher": 0.7, "baseline": 0.6, "student": 0.8}, {"baseline": 0.5}]
    rows = [{**cell, **students[number % 2]} for number, cell in enumerate(wanted)]
    rows[2]["student"] = 0.9
    few, everything = summary(rows)
    assert few["gain"] == pytest.approx(0.25)
    assert few["gain_error"] == pytest.approx(0.05)
    assert few["share_of_error_left"] == pytest.approx(0.15 / 0.4)
    lines = table([few, everything]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| 0.6000 ± 0.0000 |  | 0.7000 ± 0.0000 | 0.8500 ± 0.0500 |" in lines[2]
    assert lines[3].startswith("| 60,000 | supervised | 2 | 0.5000 ± 0.0000 |  |")
