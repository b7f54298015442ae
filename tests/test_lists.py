"""Lists as spreadsheets, pandas and people write them, or the line that is wrong."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.shard.sources import Columns, SourceFile, list_source
from tests.builders.sources import fill, image, rejects, rows, run


def listed(path: Path | str, *, labelled: bool = False, **columns: str) -> dict[str, SourceFile]:
    found = list_source(str(path), labelled=labelled, columns=Columns(**columns))
    return {file.key: file for file in found}


def refusal(path: Path | str, *, labelled: bool = False, **columns: str) -> str:
    with pytest.raises(ProtegeError) as caught:
        listed(path, labelled=labelled, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --------------------------------------------------------------------------------------- places


def test_lists_take_relative_absolute_and_s3_names(tmp_path: Path) -> None:
    expected = {
        "b/1 2.jpg": f"{tmp_path}/b/1 2.jpg",
        "./c%20#.jpg": f"{tmp_path}/c%20#.jpg",
        "../up.jpg": f"{tmp_path.parent}/up.jpg",
        "/abs/ü.jpg": "/abs/ü.jpg",
        "s3://bucket/x//y.jpg": "s3://bucket/x//y.jpg",
        "S3://bucket/z.jpg": "s3://bucket/z.jpg",
        "file:///abs/y%20z.jpg": "/abs/y z.jpg",
    }
    write(tmp_path / "l.txt", "\n".join(["", *expected, ""]))
    write(tmp_path / "L.TXT", "\r\n".join(expected))
    with (tmp_path / "l.csv").open("w", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["uri"], *([key] for key in expected)])
    write(tmp_path / "l.jsonl", "\n".join(json.dumps({"path": key}) for key in expected))
    for name in ("l.txt", "L.TXT", "l.csv", "l.jsonl"):
        found = listed(tmp_path / name)
        assert {key: file.uri for key, file in found.items()} == expected
        assert list(found) == sorted(expected)


def test_uris_made_by_python_are_read(root: Store, tmp_path: Path) -> None:
    paths = list(fill(tmp_path / "sp ace#", "é 1.png", "100%.png", "a?b.png").iterdir())
    listing = write(tmp_path / "l.txt", "\n".join(path.as_uri() for path in paths))
    assert run(root, listing).kept == 3


def test_list_on_s3_is_relative_to_its_folder(root: Store, s3: str) -> None:
    store = open_store(f"{s3}/lists")
    store.replace("l.csv", b"uri\nx//y #1.png\n./z.png\n")
    for name in ("x//y #1.png", "z.png"):
        store.replace(name, image(1))
    assert [file.uri for file in listed(f"{s3}/lists/l.csv").values()] == [
        f"{s3}/lists/z.png",
        f"{s3}/lists/x//y #1.png",
    ]
    assert run(root, f"{s3}/lists/l.csv").kept == 2


def test_files_that_are_listed_are_read__and_those_that_are_not_there_are_rejects(
    root: Store, tmp_path: Path, s3: str
) -> None:
    folder = fill(tmp_path / "in", "a b.png", "ü/c.png")
    open_store(f"{s3}/listed").replace("d.png", image(7))
    lines = ["uri,label,tags", "a b.png,cat,x y", f"{folder}/ü/c.png,dog,"]
    lines += [f"{s3}/listed/d.png,cat,z", "missing.png,dog,"]
    write(folder / "l.csv", "\n".join(lines))
    output = run(root, folder / "l.csv", labelled=True, max_reject_percent=50)
    assert rejects(output) == {"missing.png": "unreadable"}
    found = {row["key"]: (row["label"], row["tags"]) for row in rows(output)}
    assert found["a b.png"] == ("cat", ["x", "y"])
    assert found[f"{s3}/listed/d.png"] == ("cat", ["z"])
    assert len(found) == 3


def test_names_that_can_be_no_file_are_rejects__and_stop_nothing(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "loop.png").symlink_to("loop.png")
    names = ["a.png", "loop.png", "nul\0.png", "x" * 300 + ".png", "a.png/b.png", str(folder), "."]
    listing = write(folder / "l.txt", "\n".join(names))
    output = run(root, listing, max_reject_percent=100)
    assert output.kept == 1
    assert set(rejects(output).values()) == {"unreadable"}
    # `.` is the folder once more.
    assert output.rejected == len(names) - 2


# ---------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(("separator", "ending"), [(",", "csv"), (";", "csv"), ("\t", "tsv")])
def test_every_separator_and_encoding_of_spreadsheets(
    tmp_path: Path, separator: str, ending: str, encoding: str
) -> None:
    lines = [["label", "uri", "tags"], ["cat ", '"a, b; c.jpg"', ""], ["", "", ""]]
    lines += [["café", "d.jpg", "x y"]]
    text = "\r\n".join(separator.join(line) for line in lines)
    path = write(tmp_path / f"l.{ending}", text.encode(encoding))
    found = listed(path, labelled=True)
    assert {key: file.label for key, file in found.items()} == {
        "a, b; c.jpg": "cat",
        "d.jpg": "café",
    }
    assert found["d.jpg"].tags == ("x", "y")


@pytest.mark.parametrize("path", ["uri", "Path", "file", "filename", "image", " image_path "])
@pytest.mark.parametrize("label", ["label", "Class", "category", "target"])
def test_usual_names_of_columns_are_guessed(tmp_path: Path, path: str, label: str) -> None:
    listing = write(tmp_path / "l.csv", f"index,{label},{path}\n0,cat,a.jpg\n")
    assert listed(listing, labelled=True)["a.jpg"].label == "cat"


def test_spreadsheets_leave_marks_and_spaces(tmp_path: Path) -> None:
    listing = write(tmp_path / "l.csv", 'sep=;\nuri; label;\na.jpg; "cat; big";\n;;\n')
    assert listed(listing, labelled=True)["a.jpg"].label == "cat; big"


def test_other_names_are_given(tmp_path: Path) -> None:
    listing = write(tmp_path / "l.csv", "where,species,label\na.jpg,cat,1\n")
    assert listed(listing, labelled=True, image="where", label="species")["a.jpg"].label == "cat"
    assert "'where', 'species', 'label'" in refusal(listing)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.0", "10.0", "2.0"], ["1", "10", "2"]),
        (["1.0", "10.5", "2.0"], ["1.0", "10.5", "2.0"]),
        (["v1.0", "2.0", "3"], ["v1.0", "2.0", "3"]),
    ],
)
def test_integers_that_pandas_made_floats(
    tmp_path: Path, values: list[str], expected: list[str]
) -> None:
    lines = "\n".join(f"{at}.jpg,{value}" for at, value in enumerate(values))
    listing = write(tmp_path / "l.csv", f"uri,label\n{lines}\n")
    assert [file.label for file in listed(listing, labelled=True).values()] == expected


def test_lines_of_json_have_values_of_any_type(tmp_path: Path) -> None:
    lines = [{"file": "a.jpg", "label": 3.0, "tags": ["polar bear"]}, {"file": "b.jpg", "label": 4}]
    listing = write(tmp_path / "l.jsonl", "\n".join(json.dumps(line) for line in lines))
    found = listed(listing, labelled=True)
    assert [(file.label, file.tags) for file in found.values()] == [
        ("3", ("polar bear",)),
        ("4", None),
    ]


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("content", "labelled", "expected"),
    [
        (
            "place,label\nx.jpg,cat\n",
            False,
            "'uri' is missing. It has the columns 'place', 'label'",
        ),
        ("x.jpg\ny.jpg\n", False, "It has the column 'x.jpg'"),
        ("uri\nx.jpg\n", True, "names the columns uri and label; 'label' is missing"),
        ("path,filename\nx,y\n", False, "'path' and 'filename' may both be meant"),
        ("uri,label,class\nx,y,z\n", True, "'label' and 'class' may both be meant"),
        ("uri\nx.jpg\nhttp://x/y.jpg\n", False, "line 3: http://x/y.jpg cannot be opened"),
        (b"uri\nx.jpg\nb\xe9.jpg\n", False, "line 3: this is not a list in UTF-8"),
        ("uri\n" + "x" * 200_000 + "\n", False, "this is not a list in UTF-8"),
        ("x" * 200_000 + "\n", False, "line 1: this is not a list in UTF-8"),
        ("", False, "no images found"),
        ("uri\n", False, "no images found"),
        ("uri,label\na.jpg,cat\n,dog\n", True, "line 3: no file is named"),
        ("uri,label\na.jpg,cat\nb.jpg,\n", True, "line 3: no label in column 'label'"),
        ("uri,label\na.jpg,cat\n\nb.jpg\n", True, "line 4: 1 values for 2 columns (uri, label)"),
        ("uri,label\na, b.jpg,cat\n", True, "line 2: 3 values for 2 columns"),
        ("uri,label\na.jpg,a\nb.jpg,b\na.jpg,b\n", True, "lines 2 and 4 name one file, a.jpg, wit"),
        ("uri,label\na.jpg,a\n./a.jpg,b\n", True, "with two labels: 'a' and 'b'"),
        ("uri,label\nx/../a.jpg,a\n{here}/a.jpg,b\n", True, "with two labels: 'a' and 'b'"),
        ("uri,uri,label\na,b,c\n", True, "line 1: two columns have the name 'uri'"),
        ('uri,label\n"a\nb.jpg",cat\nb.jpg\n', True, "line 4: 1 values"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_line(
    tmp_path: Path, content: str | bytes, labelled: bool, expected: str
) -> None:
    if isinstance(content, str):
        content = content.replace("{here}", str(tmp_path)).encode()
    assert expected in refusal(write(tmp_path / "l.csv", content), labelled=labelled)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"uri": "a"}\n{"uri": ', "line 2: this is not JSON"),
        ('{"uri": "a"}\n\n["b"]', "line 3: an object is needed"),
        ('{"uri": "a", "label": 1}\n{"uri": "b", "label": [1]}', "line 2: '[1]' in column 'label'"),
        ('{"uri": "a", "label": 1}\n{"uri": "b"}', "line 2: no label in column 'label'"),
        ('{"uri": 3, "label": 1}', "line 1: no file is named in column 'uri'"),
    ],
)
def test_line_of_json_that_is_wrong_is_named(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path / "l.jsonl", content), labelled=True)


def test_text_list_has_no_labels__and_says_so(tmp_path: Path) -> None:
    assert "give a .csv file" in refusal(write(tmp_path / "l.txt", "x.jpg\n"), labelled=True)


def test_file_that_is_named_twice_with_one_label_is_taken_once(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png", "b.png")
    rows_ = [("a.png", "cat"), ("b.png", "dog"), ("./a.png", " cat"), (f"{folder}/b.png", "dog")]
    listing = write(folder / "l.csv", "uri,label\n" + "\n".join(map(",".join, rows_)))
    output = run(root, listing, labelled=True)
    assert [(row["key"], row["label"]) for row in rows(output)] == [
        ("a.png", "cat"),
        ("b.png", "dog"),
    ]


def test_list_is_sorted_and_sliced_like_a_folder(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "b.png", "a.png", "c/a.png")
    listing: Any = write(folder / "l.csv", "uri\nb.png\na.png\nc/a.png\n")
    assert [row["key"] for row in rows(run(root, listing, exclude="c/*"))] == ["a.png", "b.png"]
