"""A source of any kind becomes one sorted list of files, or one line that says what is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import open_store
from tasks.shard.sources import (
    Kind,
    Patterns,
    SourceFile,
    describe_passed_over,
    is_image_name,
    kind_of,
    list_source,
)
from tasks.shard.sources.names import IMAGE_SUFFIXES


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def keys(uri: str | Path, *, labelled: bool = False) -> list[str]:
    return [entry.key for entry in list_source(str(uri), labelled=labelled)]


def refusal(uri: str | Path, *, labelled: bool = False) -> str:
    with pytest.raises(ProtegeError) as caught:
        list_source(str(uri), labelled=labelled)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------- folders


def test_folder_is_sorted_nested_and_unicode(tmp_path: Path) -> None:
    names = ["z.jpg", "a/b/c d.png", "a/ünï.webp", "no-suffix", "漢/字.JPG", "_DSC0001.JPG"]
    write(tmp_path, *names)
    assert keys(tmp_path) == sorted(names)
    assert keys(f"{tmp_path}/") == keys(f"file://{tmp_path}") == sorted(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("./a/x.jpg", True), ("_MG_1.CR2", True), ("a/.x.jpg", False), ("../x.jpg", True)],
)
def test_image_names(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected


def test_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "x.jpg/y.jpg")
    assert keys(tmp_path) == ["x.jpg/y.jpg"]


def test_folder_named_like_a_table_or_a_list_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "spark.parquet/part-0.parquet", "photos.csv/x.jpg")
    assert keys(tmp_path / "spark.parquet") == ["part-0.parquet"]
    assert keys(tmp_path / "photos.csv") == ["x.jpg"]


def test_nothing_to_find_is_told(tmp_path: Path) -> None:
    write(tmp_path, "only/readme.txt")
    for uri in (tmp_path / "missing", tmp_path / "only", write(tmp_path, "x.jpg") / "x.jpg"):
        assert "no images found, or no such place. Give a folder" in refusal(uri)
    assert "no source was given" in refusal("")
    assert "there is no such file" in refusal(tmp_path / "missing.csv")
    assert "there is no such file" in refusal(tmp_path / "missing.tar")
    assert "only local paths" in refusal("http://example.com/images")


def test_label_is_the_name_of_the_top_folder(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/deep/3.jpg")
    labels = {entry.key: entry.label for entry in list_source(str(tmp_path), labelled=True)}
    assert labels == {"cat/1.jpg": "cat", "dog/2.jpg": "dog", "dog/deep/3.jpg": "dog"}
    assert {entry.label for entry in list_source(str(tmp_path), labelled=False)} == {None}


def test_folder_on_s3_is_the_folder_on_disk(tmp_path: Path, s3: str) -> None:
    names = ["a/1.jpg", "b/2 ü.jpg", "_x/1.png", "skip.txt", ".h/3.jpg", "t.tar"]
    write(tmp_path, *names)
    store = open_store(f"{s3}/sources")
    for name in names:
        store.replace(name, name.encode())
    store.replace("../beside/other.jpg".replace("../", ""), b"-")
    open_store(f"{s3}/sources-beside").replace("x.jpg", b"-")
    ours = list_source(f"{s3}/sources", labelled=True)
    theirs = list_source(str(tmp_path), labelled=True)
    assert [(e.key, e.size, e.label) for e in ours if not e.key.startswith("beside/")] == [
        (e.key, e.size, e.label) for e in theirs
    ]
    assert keys(f"{s3}/sources/t.tar") == ["t.tar"]
    assert "no images found" in refusal(f"{s3}/nothing")
    assert "no images found" in refusal(f"{s3}/sources/a/1.jpg")
    assert "no images found" in refusal("s3://no-such-bucket/x")
    assert "there is no such file" in refusal(f"{s3}/nothing.csv")


def test_compressed_source_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar.gz", "x.TGZ"):
        write(tmp_path, name)
        assert "is compressed: unpack it to .tar" in refusal(tmp_path / name)
    assert "1 .zip (compressed: unpack it to .tar)" in refusal(tmp_path)


def test_container_too_large_for_a_shard_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.tar").open("wb") as file:
        file.truncate(5 << 30)
    assert "split it into files of at most 4,096 MiB" in refusal(tmp_path)
    assert SourceFile("x.PARQUET", "", 0, "").is_container


# ------------------------------------------------------------------------------ what is no image


def test_files_of_other_kinds_are_passed_over__and_counted(tmp_path: Path) -> None:
    write(tmp_path, "x.jpg", "y", ".hidden.jpg", ".cache/y.jpg", "__MACOSX/z.jpg")
    others = ["Thumbs.db", "labels.csv", "x.json", "README", "a/x.OGG", "b/x.svg", "_SUCCESS"]
    others += ["x.tar.gz", "y.zip", "y.xmp", "x.jpg:Zone.Identifier", "z.ogg", "1.cls", "1.npy"]
    write(tmp_path, *others)
    listing = list_source(str(tmp_path), labelled=False)
    assert [file.key for file in listing] == ["x.jpg", "y"]
    assert listing.passed_over.total() == len(others)
    assert listing.passed_over[".ogg"] == 2
    assert {".tar.gz", ".zip", ".identifier", "readme", ".db"} <= set(listing.passed_over)
    text = describe_passed_over(listing.passed_over)
    assert text.startswith("2 .ogg, ")
    assert "1 .tar.gz (compressed: unpack it to .tar)" in text


@given(st.text(max_size=12), st.sampled_from([*sorted(IMAGE_SUFFIXES), "", ".xyz", ".CR2"]))
def test_what_may_be_an_image_is_not_passed_over(stem: str, suffix: str) -> None:
    name = f"a{stem.replace('.', '').replace('/', '')}{suffix.upper()}"
    assert kind_of(f"folder.npy/{name}") in {Kind.IMAGE, Kind.UNKNOWN}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["a/1.jpg", "a/2.png", "b/3.png", "b/t.tar"]),
        (("*.png",), (), ["a/2.png", "b/3.png", "b/t.tar"]),
        (("a/*", "b/3*"), ("*.jpg",), ["a/2.png", "b/3.png", "b/t.tar"]),
        ((), ("b/*",), ["a/1.jpg", "a/2.png"]),
        ((), ("*.tar", "?/1*"), ["a/2.png", "b/3.png"]),
    ],
)
def test_patterns_choose_by_key(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    write(tmp_path, "a/1.jpg", "a/2.png", "b/3.png", "b/t.tar")
    listing = list_source(str(tmp_path), labelled=False, patterns=Patterns(include, exclude))
    assert [file.key for file in listing] == expected


def test_patterns_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg")
    with pytest.raises(ProtegeError, match=r"leave none of its 1 images, such as a/1\.jpg"):
        list_source(str(tmp_path), labelled=False, patterns=Patterns(("*.png",)))


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_more_files_than_a_process_can_know_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names = [f"{number}.jpg" for number in range(6)]
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "in.txt").write_text("".join(f"in/{name}\n" for name in names))
    source = tmp_path / ("in" if kind == "folder" else "in.txt")
    monkeypatch.setattr("tasks.shard.sources.files.MAX_FILES", 5)
    monkeypatch.setattr("tasks.shard.sources.folder.MAX_FILES", 5)
    with pytest.raises(ProtegeError, match=r"more than 5 files.*pack them into \.tar"):
        list_source(str(source), labelled=False)
    monkeypatch.undo()
    assert len(list_source(str(source), labelled=False)) == 6
