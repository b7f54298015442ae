"""A source of any kind becomes one sorted list of files, or one line that says what is wrong."""

import csv
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ProtegeError
from infra.store import open_store
from tasks.shard.sources import SourceFile, is_image_name, list_source, read_container


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def tar_bytes(names: Iterable[str], prefix: str = "") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len((prefix + name).encode())
            archive.addfile(info, io.BytesIO((prefix + name).encode()))
    return sink.getvalue()


def keys(uri: str | Path, *, labelled: bool = False) -> list[str]:
    return [entry.key for entry in list_source(str(uri), labelled=labelled)]


def refusal(uri: str | Path, *, labelled: bool = False) -> str:
    with pytest.raises(ProtegeError) as caught:
        list_source(str(uri), labelled=labelled)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def members(path: Path) -> list[tuple[str, bytes, int | None, str | None]]:
    return list(read_container(str(path)))


# -------------------------------------------------------------------------------------- folders


def test_folder_is_sorted_nested_and_unicode(tmp_path: Path) -> None:
    names = ["z.jpg", "a/b/c d.png", "a/ünï.webp", "no-suffix", "漢/字.JPG", "_DSC0001.JPG"]
    write(tmp_path, *names)
    assert keys(tmp_path) == sorted(names)
    assert keys(f"{tmp_path}/") == keys(f"file://{tmp_path}") == sorted(names)


def test_companions_of_images_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "x.jpg", ".hidden.jpg", ".cache/y.jpg", "__MACOSX/z.jpg", "Thumbs.db")
    write(tmp_path, "labels.csv", "x.json", "README", "README.md", "_SUCCESS", "_metadata")
    assert keys(tmp_path) == ["x.jpg"]


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


def test_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"x")
    assert "is not UTF-8" in refusal(tmp_path)


def test_label_is_the_name_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/deep/3.jpg", "4.jpg")
    labels = {entry.key: entry.label for entry in list_source(str(tmp_path), labelled=True)}
    assert labels == {
        "cat/1.jpg": "cat",
        "dog/2.jpg": "dog",
        "dog/deep/3.jpg": "deep",
        "4.jpg": None,
    }
    assert {entry.label for entry in list_source(str(tmp_path), labelled=False)} == {None}


@pytest.mark.parametrize("inside", [[], ["notes.txt"]])
def test_class_without_an_image_is_named(tmp_path: Path, inside: list[str]) -> None:
    write(tmp_path, "cat/1.jpg", *(f"dog/{name}" for name in inside))
    (tmp_path / "dog").mkdir(exist_ok=True)
    for uri in (str(tmp_path), f"file://{tmp_path}"):
        assert "class 'dog' has no image" in refusal(uri, labelled=True)
    assert keys(tmp_path) == ["cat/1.jpg"]


def test_folder_on_s3_is_the_folder_on_disk(tmp_path: Path, s3: str) -> None:
    names = ["a/1.jpg", "b/2 ü.jpg", "_x.png", "skip.txt", ".h/3.jpg", "t.tar"]
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


# ---------------------------------------------------------------------------------------- lists


def test_lists_take_relative_absolute_and_s3_names(tmp_path: Path) -> None:
    rows = ["b/1 2.jpg", "/abs/ü.jpg", "s3://bucket/x.jpg", "file:///abs/y.jpg"]
    expected = {
        "b/1 2.jpg": f"{tmp_path}/b/1 2.jpg",
        **{row: row for row in rows[1:]},
    }
    (tmp_path / "l.txt").write_text("\n".join(["", *rows, ""]))
    (tmp_path / "L.TXT").write_text("\r\n".join(rows))
    with (tmp_path / "l.csv").open("w", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["uri"], *([row] for row in rows)])
    for name in ("l.txt", "L.TXT", "l.csv"):
        entries = list_source(str(tmp_path / name), labelled=False)
        assert {entry.key: entry.uri for entry in entries} == expected
        assert [entry.key for entry in entries] == sorted(rows)


def test_csv_tells_labels_and_tags__and_no_line_is_lost(tmp_path: Path) -> None:
    text = 'label,uri,tags,extra\ncat,"a, b.jpg",x y,1\n dog ,c.jpg,,2,3,4\n,d.jpg\nfox\n'
    (tmp_path / "l.csv").write_text(text)
    entries = {entry.key: entry for entry in list_source(str(tmp_path / "l.csv"), labelled=True)}
    assert entries["a, b.jpg"].label == "cat"
    assert entries["a, b.jpg"].tags == ("x", "y")
    assert entries["c.jpg"].label == "dog"
    assert entries["d.jpg"].label is None
    assert len(entries) == 4


@pytest.mark.parametrize(
    ("text", "labelled", "expected"),
    [
        (b"path,label\nx.jpg,cat\n", False, "'uri' is missing"),
        (b"uri\nx.jpg\n", True, "names the columns uri and label; 'label' is missing"),
        (b"uri\nhttp://x/y.jpg\n", False, "http://x/y.jpg cannot be opened"),
        (b"uri\n\xff\xfe.jpg\n", False, "is not a list in UTF-8"),
        (b"uri\n" + b"x" * 200_000 + b"\n", False, "is not a list in UTF-8"),
        (b"", False, "no images found"),
        (b"uri\n", False, "no images found"),
    ],
)
def test_broken_list_is_one_line(
    tmp_path: Path, text: bytes, labelled: bool, expected: str
) -> None:
    (tmp_path / "l.csv").write_bytes(text)
    assert expected in refusal(tmp_path / "l.csv", labelled=labelled)


def test_text_list_has_no_labels__and_says_so(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("x.jpg\n")
    assert "give a .csv file" in refusal(tmp_path / "l.txt", labelled=True)


def test_list_on_s3_is_relative_to_its_folder(s3: str) -> None:
    open_store(f"{s3}/lists").replace("l.csv", b"uri\nx/y.jpg\n")
    (entry,) = list_source(f"{s3}/lists/l.csv", labelled=False)
    assert entry.uri == f"{s3}/lists/x/y.jpg"


# ----------------------------------------------------------------------------------- containers


def test_tar_members_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.TAR"
    names = ["cat/1.jpg", "./dog/2 ü.jpg", "top.jpg", "skip.json", ".h/3.jpg", "n" * 150 + "/l.jpg"]
    path.write_bytes(tar_bytes(names))
    found = members(path)
    assert [key for key, *_ in found] == [name for name in names if is_image_name(name)]
    for key, data, offset, _ in found:
        assert offset is not None
        assert path.read_bytes()[offset : offset + len(data)] == data == key.encode()
    assert [label for *_, label in found] == ["cat", "dog", None, "n" * 150]


def test_links_in_a_tar_are_not_lost(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
        for name, kind in (("hard.jpg", tarfile.LNKTYPE), ("soft.jpg", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.jpg"
            archive.addfile(link)
    found = {key: data for key, data, *_ in members(tmp_path / "x.tar")}
    assert found == {"a.jpg": b"abc", "hard.jpg": b"abc", "soft.jpg": b""}


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1536, 2560, 3072])
def test_tar_that_is_cut_off_is_refused__at_any_place(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(["a.jpg", "b.jpg", "c.jpg"])[:cut])
    with pytest.raises((ProtegeError, tarfile.TarError)):
        members(path)


def test_two_tars_in_one_file_are_refused__not_half_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(["a.jpg"]) + tar_bytes(["b.jpg"]))
    with pytest.raises(ProtegeError, match="is no whole tar file"):
        members(path)


def test_compressed_tar_is_refused__its_offsets_would_be_wrong(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(tarfile.TarError):
        members(tmp_path / "x.tar")


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_tables_of_bytes_and_of_hugging_face_dicts_are_read(tmp_path: Path) -> None:
    images = [b"%d" % at for at in range(600)]
    plain = parquet(tmp_path / "a.parquet", image=images, label=[at % 3 for at in range(600)])
    wrapped = parquet(
        tmp_path / "b.parquet",
        image=[{"bytes": data, "path": f"{data!r}.jpg"} for data in images],
        key=[f"k{at}" for at in range(600)],
    )
    large = parquet(tmp_path / "c.parquet", image=pa.array(images, pa.large_binary()))
    assert [data for _, data, *_ in members(plain)] == images
    assert members(plain)[5] == ("000000005", b"5", None, "2")
    assert [data for _, data, *_ in members(wrapped)] == images
    assert members(wrapped)[5] == ("k5", b"5", None, None)
    assert [data for _, data, *_ in members(large)] == images


def test_missing_bytes_in_a_table_are_an_empty_image__not_a_lost_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", image=[b"1", None, b""])
    assert [data for _, data, *_ in members(path)] == [b"1", b"", b""]
    path = parquet(
        tmp_path / "b.parquet", image=[{"bytes": None, "path": "x"}, {"bytes": b"1"}, None]
    )
    assert [data for _, data, *_ in members(path)] == [b"", b"1", b""]


@pytest.mark.parametrize("column", [{"picture": [b"1"]}, {"image": ["text"]}, {"image": [1]}])
def test_table_without_images_is_told(tmp_path: Path, column: dict[str, Any]) -> None:
    with pytest.raises(ProtegeError, match="needs a column 'image' of bytes"):
        members(parquet(tmp_path / "a.parquet", **column))


def test_container_too_large_for_a_shard_is_told(tmp_path: Path) -> None:
    with (tmp_path / "x.tar").open("wb") as file:
        file.truncate(5 << 30)
    assert "split it into files of at most 4,096 MiB" in refusal(tmp_path)
    assert SourceFile("x.PARQUET", "", 0, "").is_container
