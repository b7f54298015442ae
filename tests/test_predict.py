"""predict: a row for each image of whatever can be a source, and for those that cannot be used."""

import csv
import io
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import protege as pg
from flows.cli import app
from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.images import encode_png
from tasks.inference.answer_files import ROWS_PER_GROUP, answer_file, csv_lines
from tasks.inference.answers import Answer, Tally, answers
from tasks.inference.model import Model, Prediction, load_model
from tasks.inference.pipeline import (
    BATCHES_AHEAD,
    CHUNKS_AHEAD,
    DECODE_THREADS,
    IMAGES_TOGETHER,
    RESULTS_AHEAD,
)
from tasks.inference.sources import EncodedPicture, list_pictures, read_pictures
from tests.builders.containers import parquet, tar_bytes
from tests.builders.models import CLASSES, colour_model
from tests.builders.pictures import picture

DAMAGED = b"\x89PNG\r\n\x1a\n and no more"
RED, GREEN, BLUE = (
    encode_png(picture(colour, np.random.default_rng(0))) for colour in ("red", "green", "blue")
)


@pytest.fixture
def colours(root: Store) -> str:
    """The address of a model that tells red, green and blue."""
    return colour_model(root, weight=9.0).uri


@pytest.fixture
def opened(root: Store) -> Model:
    return load_model(colour_model(root, weight=9.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where paths are typed as people type them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def best(done: Result) -> list[tuple[str, str]]:
    assert done.exit_code == 0, done.output
    return [(row["path"], row["label_1"]) for row in rows(done.stdout)]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_every_kind_of_source_gives_a_row_an_image_in_the_order_of_listing(
    colours: str, folder: Path
) -> None:
    write(folder / "photos/b/1.png", GREEN)
    write(folder / "photos/a/2.png", RED)
    write(folder / "photos/notes.pdf", b"%PDF")
    write(folder / "photos/pack.tar", tar_bytes({"x.png": BLUE, "y.png": RED, "z.ogg": b"OggS"}))
    parquet(folder / "table.parquet", image=[GREEN, BLUE], key=["one", "two"])
    write(folder / "few.csv", b"uri,label\nphotos/b/1.png,cat\n./photos/a/2.png,dog\n")
    done = run(colours, "few.csv", "photos/", "table.parquet", "photos/b/1.png", "--top-k", "1")
    assert best(done) == [
        # Whatever is listed is sorted by its key, as it is typed.
        *(("./photos/a/2.png", "red"), ("photos/b/1.png", "green")),
        *(("photos/a/2.png", "red"), ("photos/b/1.png", "green")),
        *(("photos/pack.tar/x.png", "blue"), ("photos/pack.tar/y.png", "red")),
        *(("table.parquet/one", "green"), ("table.parquet/two", "blue")),
        ("photos/b/1.png", "green"),
    ]
    assert done.stdout.splitlines()[0] == "path,label_1,probability_1,problem"
    assert "9 images; files of other kinds, passed over: 1 .ogg, 1 .pdf" in done.stderr


def test_sources_on_s3_are_read(colours: str, s3: str, folder: Path) -> None:
    store = open_store(f"{s3}/predict")
    for name, data in {"a/1.png": RED, "b.png": BLUE, "c.tar": tar_bytes({"d": GREEN})}.items():
        store.replace(name, data)
    out = f"{s3}/predicted/answers.csv"
    assert run(colours, f"{s3}/predict", f"{s3}/predict/b.png", "--out", out).exit_code == 0
    written = rows(open_store(f"{s3}/predicted").read("answers.csv").decode())
    assert [(row["path"].removeprefix(s3), row["label_1"]) for row in written] == [
        *(("/predict/a/1.png", "red"), ("/predict/b.png", "blue")),
        *(("/predict/c.tar/d", "green"), ("/predict/b.png", "blue")),
    ]


def test_answers_are_those_of_the_model(colours: str, opened: Model, folder: Path) -> None:
    for number, data in enumerate((RED, GREEN, BLUE)):
        write(folder / f"photos/{number}.png", data)
    table = pg.predict(colours, "photos", top_k=99)
    assert table.column_names == [
        "path",
        *(f"{kind}_{place}" for place in (1, 2, 3) for kind in ("label", "probability")),
        "problem",
    ]
    for row, expected in zip(table.to_pylist(), opened.predict([RED, GREEN, BLUE])):
        assert [row[f"label_{place}"] for place in (1, 2, 3)] == list(expected.labels)
        found = [row[f"probability_{place}"] for place in (1, 2, 3)]
        assert found == pytest.approx(expected.probabilities, rel=1e-5)
        assert math.isclose(sum(found), 1)


def test_csv_and_parquet_have_the_same_rows(colours: str, folder: Path) -> None:
    for name, data in {"1.png": RED, "2.png": DAMAGED, "3.png": b""}.items():
        write(folder / "photos" / name, data)
    for out in ("answers.csv", "ANSWERS.PARQUET"):
        done = run(colours, "photos", "--out", out)
        assert (done.exit_code, done.stdout) == (0, ""), done.output
        assert "3 images, of which no use: 1 damaged, 1 empty" in done.stderr
    table = pq.read_table("ANSWERS.PARQUET").to_pylist()
    for typed, text in zip(table, rows((folder / "answers.csv").read_text()), strict=True):
        assert text["path"] == typed["path"]
        assert text["label_1"] == (typed["label_1"] or "")
        assert text["problem"] == (typed["problem"] or "")
        if typed["problem"] is None:
            assert float(text["probability_1"]) == pytest.approx(typed["probability_1"], rel=1e-7)
        else:
            assert typed["probability_1"] is None


def test_what_cannot_be_read_is_a_row_and_the_others_are_answered(
    colours: str, folder: Path
) -> None:
    whole = tar_bytes({"x.png": BLUE, "y.png": GREEN})
    write(folder / "photos/1 torn.tar", whole[: len(whole) // 8])
    write(folder / "photos/2 page.jpg", b"<html>not found</html>")
    write(folder / "photos/4 good.png", RED)
    write(folder / "photos/5.tar", tar_bytes({"x.png": BLUE, "y.png": DAMAGED}))
    write(folder / "photos/6.parquet", b"PAR1 and no more")
    (folder / "photos/3 gone.png").symlink_to("nowhere.png")
    done = run(colours, "photos")
    found = {row["path"]: row["label_1"] or row["problem"] for row in rows(done.stdout)}
    assert list(found) == [
        f"photos/{name}"
        for name in (
            *("1 torn.tar", "2 page.jpg", "3 gone.png", "4 good.png"),
            *("5.tar/x.png", "5.tar/y.png", "6.parquet"),
        )
    ]
    assert (found["photos/4 good.png"], found["photos/5.tar/x.png"]) == ("red", "blue")
    assert found["photos/1 torn.tar"].startswith("unreadable: ")
    assert found["photos/2 page.jpg"].startswith("not_an_image: ")
    assert found["photos/3 gone.png"].startswith("unreadable: FileNotFoundError")
    assert found["photos/5.tar/y.png"].startswith("damaged: ")
    assert done.exit_code == 0
    assert "7 images, of which no use: 3 unreadable, " in done.stderr


def test_without_a_single_answer_it_fails_and_still_says_why(colours: str, folder: Path) -> None:
    write(folder / "photos/1.png", DAMAGED)
    done = run(colours, "photos", "--out", "answers.csv")
    assert isinstance(done.exception, ProtegeError)
    assert "no image that could be used" in str(done.exception)
    assert [row["problem"].split(":")[0] for row in rows(Path("answers.csv").read_text())] == [
        "damaged"
    ]


def test_model_whose_answers_are_no_numbers_says_so_in_every_row(root: Store, folder: Path) -> None:
    write(folder / "photos/1.png", RED)
    done = run(colour_model(root, weight=float("inf")).uri, "photos")
    assert isinstance(done.exception, ProtegeError)
    assert rows(done.stdout)[0]["problem"].startswith("not_finite: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos", "typo/"], "typo/: no images found, or no such place"),
        (["photos/typo.png"], "no images found, or no such place"),
        (["typo.csv"], "there is no such file"),
        ([""], "no source was given"),
        (["photos", "--out", "answers.xlsx"], "answers.xlsx: answers are written as .csv or"),
        (["photos", "--out", "photos/1.png/x.csv"], "x.csv cannot be written"),
    ],
)
def test_mistake_is_one_sentence_before_any_row(
    colours: str, folder: Path, arguments: list[str], sentence: str
) -> None:
    write(folder / "photos/1.png", RED)
    done = run(colours, *arguments)
    assert isinstance(done.exception, ProtegeError), done.output
    assert sentence in str(done.exception)
    assert done.stdout == ""


def test_single_file_is_confined_like_every_source(
    colours: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "open/1.png", RED)
    write(folder / "secret/2.png", RED)
    monkeypatch.setenv("PROTEGE_SOURCES", str(folder / "open"))
    assert best(run(colours, "open/1.png")) == [("open/1.png", "red")]
    for path in ("secret/2.png", "open/../secret/2.png"):
        done = run(colours, path)
        assert "may not be read" in str(done.exception)


def test_names_of_all_kinds_come_back_from_the_csv(colours: str, folder: Path) -> None:
    names = ['a "quoted", name.png', "b\nline.png", "c é 画.png", " d .png", "e%20f.png"]
    for name in names:
        write(folder / "photos" / name, RED)
    write(folder / os.fsdecode(b"photos/z\xe9.png"), RED)
    found = {row["path"]: row for row in rows(run(colours, "photos").stdout)}
    for name in names:
        assert found[f"photos/{name}"]["label_1"] == "red"
    assert "not UTF-8" in found["photos/z\\xe9.png"]["problem"]
    assert best(run(colours, f"file://{folder}/photos/e%2520f.png")) == [
        (f"{folder}/photos/e%20f.png", "red")
    ]


def test_pictures_are_read_only_as_far_as_they_are_needed(opened: Model) -> None:
    taken = 0

    def pictures() -> Iterator[EncodedPicture]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield EncodedPicture(f"{number}.png", RED)

    found = answers(opened, pictures(), top_k=1, batch_size=4)
    assert [answer.path for answer in itertools.islice(found, 20)] == [
        f"{number}.png" for number in range(20)
    ]
    # Beside the batch that was answered: some wait, and each thread has one.
    batches_ahead = BATCHES_AHEAD + RESULTS_AHEAD + 4
    assert taken <= 20 + 4 * batches_ahead + DECODE_THREADS * CHUNKS_AHEAD * IMAGES_TOGETHER


def test_containers_are_opened_one_after_the_other(folder: Path) -> None:
    for number in range(3):
        write(folder / f"photos/{number}.tar", tar_bytes({"x.png": RED, "y.png": BLUE}))
    listing = list_pictures(["photos"])
    assert listing.num_images is None
    assert listing.batch_size(64) == 64
    pictures = read_pictures(listing)
    assert next(pictures).path == "photos/0.tar/x.png"
    (folder / "photos/2.tar").unlink()
    problems = [(picture.path, picture.problem is None) for picture in pictures]
    assert problems[-1] == ("photos/2.tar", False)
    assert all(fine for _, fine in problems[:-1])


def test_batch_is_no_larger_than_what_there_is(folder: Path) -> None:
    write(folder / "photos/1.png", RED)
    assert list_pictures(["photos", "photos/1.png"]).batch_size(64) == 2
    assert list_pictures(["photos"]).batch_size(1) == 1


ANSWER = Answer("x.png", Prediction(CLASSES[:1], (0.25,)))


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet"])
def test_file_that_is_not_finished_does_not_appear(folder: Path, name: str) -> None:
    (folder / name).write_text("of yesterday")

    def break_off() -> None:
        with answer_file(name, 1) as add:
            add(ANSWER)
            raise InterruptedError

    with pytest.raises(ProtegeError, match="cannot be written"):
        break_off()
    assert [item.name for item in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "of yesterday"


def test_parquet_of_many_answers_has_large_groups(folder: Path) -> None:
    with answer_file("answers.parquet", 1) as add:
        for _ in range(ROWS_PER_GROUP + 1):
            add(ANSWER)
    metadata = pq.ParquetFile("answers.parquet").metadata
    assert (metadata.num_rows, metadata.num_row_groups) == (ROWS_PER_GROUP + 1, 2)
    with answer_file("none.parquet", 1):
        pass
    assert pq.read_table("none.parquet").num_rows == 0


def test_probabilities_keep_their_digits_as_text() -> None:
    text = io.StringIO()
    add, tally = csv_lines(text, 2), Tally()
    answer = Answer("x", Prediction(CLASSES[:2], (1 - 2**-24, 3e-12)))
    add(answer)
    tally.add(answer)
    (row,) = rows(text.getvalue())
    assert (row["probability_1"], row["probability_2"]) == ("0.99999994", "3e-12")
    assert str(tally) == "1 images"
