"""Folders tell the classes of a labelled source, or it is an error that names the folders."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard import class_names
from tasks.shard.classes import look_alikes, sort_classes
from tasks.shard.sources import list_source
from tests.builders.sources import fill, image, rejects, run, tar_of


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def labels(folder: Path, **options: Any) -> set[str | None]:
    return {file.label for file in list_source(str(folder), labelled=True, **options)}


def refusal(folder: Path | str, **options: Any) -> str:
    with pytest.raises(ProtegeError) as caught:
        list_source(str(folder), labelled=True, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------- which folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat/1.png", "dog/2.png"], {"cat", "dog"}),
        (["vehicles/sub/x.png", "vehicles/y.png", "tools/z.png"], {"vehicles", "tools"}),
        (["n1/images/1.png", "n2/images/2.png", "n3/images/3.png"], {"n1", "n2", "n3"}),
        (["dog/clip-1/x.png", "cat/clip-2/y.png"], {"dog", "cat"}),
        (["train/a.png", "plane/b.png", "bus/c.png"], {"train", "plane", "bus"}),
        (["label=cat/1.png", "label=dog%20/2.png"], {"cat", "dog"}),
    ],
)
def test_class_is_the_top_folder(tmp_path: Path, names: list[str], expected: set[str]) -> None:
    assert labels(write(tmp_path, *names)) == expected


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train/a/1.png", "train/b/2.png", "val/a/3.png"], ["train", "val"]),
        (["train/a/1.png", "val/a/3.png"], ["train", "val"]),
        (["Training/a/1.png", "Testing/b/3.png"], ["Testing", "Training"]),
        (["train2017/a/1.png", "val2017/b/3.png"], ["train2017", "val2017"]),
        (["p/a/1.png", "p/b/2.png", "q/a/3.png"], ["'a' under p, q"]),
        (["cat/1/a.png", "cat/2/a.png", "dog/1/a.png", "dog/2/a.png"], ["'1' under cat, dog"]),
    ],
)
def test_folders_that_may_be_splits_are_refused_with_their_names__and_a_level_decides(
    tmp_path: Path, names: list[str], named: list[str]
) -> None:
    text = refusal(write(tmp_path, *names))
    assert all(name in text for name in named)
    assert "class_level" in text
    for level in (1, 2):
        assert labels(tmp_path, class_level=level) == {name.split("/")[level - 1] for name in names}


def test_stray_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "dog/2.png", "3.png", "notes.txt")
    assert "1 labelled images have no class (3.png)" in refusal(tmp_path)
    assert "3 labelled images have no class (3.png" in refusal(tmp_path, class_level=2)
    write(tmp_path, *(f"flat/{at}.png" for at in range(9)))
    assert "no class (0.png, 1.png, 2.png, 3.png, 4.png and 4 more)" in refusal(tmp_path / "flat")


def test_unknown_files_beside_the_classes_are_looked_into(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "cat/1.png", "dog/2.png")
    write(folder, "classes.names", "notes", "index.dat")
    output = run(root, folder, labelled=True)
    assert (output.rows_in, class_names(output)) == (2, ["cat", "dog"])
    assert output.body["extra"]["passed_over"] == {".dat": 1, ".names": 1, "no ending": 1}
    fill(folder, "3")
    with pytest.raises(ProtegeError, match=r"1 labelled images have no class \(3\)"):
        run(root, folder, labelled=True)


@pytest.mark.parametrize("inside", [[], ["notes.txt"]])
def test_class_without_an_image_is_named(tmp_path: Path, inside: list[str]) -> None:
    write(tmp_path, "cat/1.jpg", *(f"dog/{name}" for name in inside))
    (tmp_path / "dog").mkdir(exist_ok=True)
    for uri in (str(tmp_path), f"file://{tmp_path}"):
        assert "class 'dog' has no image" in refusal(uri)
    assert len(list_source(str(tmp_path), labelled=False)) == 1


def test_rubbish_of_tools_makes_no_class(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "dog/2.png", ".ipynb_checkpoints/x.png", "__MACOSX/cat/1.png")
    write(tmp_path, ".DS_Store", "cat/Thumbs.db", "classes.txt", "cat/.1.png.icloud")
    assert labels(tmp_path) == {"cat", "dog"}


def test_same_folders_in_a_tar_tell_the_same_classes(root: Store, tmp_path: Path) -> None:
    names = ["cat/deep/1.png", "dog/2.png"]
    loose = run(root, fill(tmp_path / "loose", *names), labelled=True)
    tar_of(tmp_path / "packed" / "t.tar", {name: image(1) for name in names})
    packed = run(root, tmp_path / "packed", labelled=True)
    assert class_names(loose) == class_names(packed) == ["cat", "dog"]
    tar_of(tmp_path / "split" / "t.tar", {f"train/{name}": image(1) for name in names})
    with pytest.raises(ProtegeError, match=r"Only 'train' was found.* \(options.class_level\)"):
        class_names(run(root, tmp_path / "split", labelled=True))
    output = run(root, tmp_path / "split", labelled=True, class_level=2)
    assert class_names(output) == ["cat", "dog"]


# -------------------------------------------------------------------------------------- names


def test_names_that_are_not_utf_8_are_rejects__and_stop_nothing(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "cat/a.png", "dog/b.png")
    for name in (b"caf\xe9.png", b"\xff.jpg"):
        (folder / "cat" / os.fsdecode(name)).write_bytes(image(1))
    tar_of(folder / "cat" / "t.tar", {"x.png": image(1)})
    (folder / "cat" / "t.tar").rename(folder / "cat" / os.fsdecode(b"\xff.tar"))
    for _ in range(2):
        output = run(root, folder, labelled=True, max_reject_percent=60)
        assert rejects(output) == {
            r"cat/\xff.tar": "unreadable",
            r"cat/caf\xe9.png": "unreadable",
            r"cat/\xff.jpg": "unreadable",
        }
    details = output.rejects(["detail"])["detail"].to_pylist()
    assert set(details) == {"the name is not UTF-8 text: rename this file"}
    assert class_names(output) == ["cat", "dog"]


def test_names_are_compared_in_one_unicode_form(root: Store, tmp_path: Path) -> None:
    labelled = run(root, fill(tmp_path / "a", "caf\u00e9/1.png", "dog/2.png"), labelled=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "l.csv").write_text("uri,label\n1.png,cafe\u0301\n2.png,dog\n")
    fill(tmp_path / "b", "1.png", "2.png")
    test = run(root, tmp_path / "b" / "l.csv", labelled=True)
    twins = fill(tmp_path / "c", "cafe\u0301/1.png", "caf\u00e9/2.png", "dog/3.png")
    both = run(root, twins, labelled=True)
    assert class_names(labelled, test) == class_names(both, test) == ["caf\u00e9", "dog"]


@given(st.sets(st.integers(0, 2000), min_size=1))
def test_integers_are_sorted_as_numbers__also_with_a_name_among_them_as_text(
    numbers: set[int],
) -> None:
    names = {str(number) for number in numbers}
    assert sort_classes(names) == [str(number) for number in sorted(numbers)]
    assert sort_classes({*names, "cat"}) == sorted({*names, "cat"})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "Cat", "dog"], [["Cat", "cat"]]),
        (["polar bear", "polar_bear", "polar-bear"], [["polar bear", "polar-bear", "polar_bear"]]),
        (["cat ", "cat"], [["cat", "cat "]]),
        (["c\u0430t", "cat"], [["cat", "c\u0430t"]]),
        (["cat\u200b", "cat"], [["cat", "cat\u200b"]]),
        (["\uff43at", "cat"], [["cat", "\uff43at"]]),
        (["1", "01", "10"], [["01", "1"]]),
        (["cat", "cats", "caf\u00e9", "cafe"], []),
    ],
)
def test_names_that_look_alike_are_found(names: list[str], expected: list[list[str]]) -> None:
    assert look_alikes(names) == expected


def test_names_that_look_alike_are_warned_of(
    root: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = run(root, fill(tmp_path / "in", "cat/1.png", "Cat/2.png"), labelled=True)
    with caplog.at_level(logging.WARNING):
        assert class_names(output) == ["Cat", "cat"]
    assert "'Cat', 'cat'" in caplog.text


# ---------------------------------------------------------------------------- before any work
