"""Tables of images as people have them: any usual name and type of a column, or a clear refusal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard import class_names
from tasks.shard.sources.labels import label_text, tags_of
from tests.builders.containers import parquet, read
from tests.builders.shards import shard_table
from tests.builders.sources import image, rejects, rows, run

IMAGES = [b"0", b"1", b"2"]
DICTIONARY = pa.dictionary(pa.int8(), pa.binary())
KINDS = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1), DICTIONARY]


def hugging_face(**names: list[str]) -> dict[bytes, bytes]:
    features = {name: {"names": found, "_type": "ClassLabel"} for name, found in names.items()}
    body = {"info": {"features": {**features, "image": {"_type": "Image"}}}}
    return {b"huggingface": json.dumps(body).encode()}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ProtegeError) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("name", ["image", "img", "JPG", "png", "bytes", "image_bytes", "scan"])
@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())],
)
def test_image_column_of_any_usual_name_and_type(
    tmp_path: Path, name: str, kind: pa.DataType
) -> None:
    plain = pa.array(IMAGES, pa.binary())
    column = plain.dictionary_encode() if kind == DICTIONARY else pa.array(IMAGES, kind)
    path = parquet(tmp_path / "a.parquet", **{"caption": ["x", "y", "z"], name: column})
    assert [member.data for member in read(path)] == IMAGES


def test_rows_of_hugging_face_are_wrapped_with_a_path(tmp_path: Path) -> None:
    images = [b"%d" % at for at in range(600)]
    path = parquet(
        tmp_path / "b.parquet",
        img=[{"bytes": data, "path": f"{data!r}.jpg"} for data in images],
        key=[f"k{at}" for at in range(600)],
    )
    found = read(path)
    assert [member.data for member in found] == images
    assert found[5].name == "k5"
    plain = read(parquet(tmp_path / "a.parquet", image=images))
    assert plain[5].name == "000000005"


def test_missing_bytes_are_an_empty_image__not_a_lost_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", image=[b"1", None, b""])
    assert [member.data for member in read(path)] == [b"1", b"", b""]
    wrapped = [{"bytes": None, "path": "x"}, {"bytes": b"1", "path": ""}, None]
    path = parquet(tmp_path / "b.parquet", image=wrapped)
    assert [member.data for member in read(path)] == [b"", b"1", b""]


@pytest.mark.parametrize(
    ("columns", "listed"),
    [
        ({"picture": ["text"]}, "'picture' (string)"),
        ({"image": [1]}, "'image' (int64)"),
        ({"left": [b"1"], "right": [b"2"]}, "'left' (binary), 'right' (binary)"),
        ({"label": [b"cat"]}, "'label' (binary)"),
    ],
)
def test_table_without_an_image_column_is_refused_with_its_columns(
    tmp_path: Path, columns: dict[str, Any], listed: str
) -> None:
    text = refusal(parquet(tmp_path / "a.parquet", **columns))
    assert "needs a column 'image' of bytes" in text
    assert listed in text
    assert "image_column" in text


def test_columns_are_guessed_only_where_that_is_sure__or_taken_as_they_are_named(
    tmp_path: Path,
) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        img=[b"1"],
        jpg=[b"2"],
        fine_label=["cat"],
        coarse_label=["animal"],
    )
    text = refusal(path)
    assert "'img' and 'jpg' may both be meant" in text
    assert "Set options.image_column" in text
    text = refusal(path, image="jpg", labelled=True)
    assert "'fine_label' and 'coarse_label' may both be meant" in text
    assert "'coarse_label' (string)" in text
    (found,) = read(path, image="jpg", label="coarse_label", labelled=True)
    assert (found.data, found.label) == (b"2", "animal")
    assert "has no column 'x' (options.image_column)" in refusal(path, image="x")
    assert "holds string and not bytes" in refusal(path, image="fine_label")
    assert "has no column 'x' (options.label_column)" in refusal(
        path, image="jpg", label="x", labelled=True
    )


def test_labelled_table_without_labels_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", image=[b"1"], caption=["x"])
    text = refusal(path, labelled=True)
    assert "needs a column 'label'" in text
    assert "'image' (binary), 'caption' (string)" in text


# --------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([7, 10], pa.uint16()), ["7", "10"]),
        (pa.array([7.0, None]), ["7", None]),
        (pa.array([1.0, float("nan")]), ["1", None]),
        (pa.array([b"cat", "caf\u00e9".encode()]), ["cat", "caf\u00e9"]),
        (pa.array([" cat ", "cafe\u0301"]), ["cat", "caf\u00e9"]),
        (pa.array(["a", ""]), ["a", None]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([3, 4]).dictionary_encode(), ["3", "4"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array([b"a", b"b"], pa.binary_view()), ["a", "b"]),
    ],
)
def test_labels_of_every_type_become_the_same_text(
    tmp_path: Path, values: pa.Array, expected: list[str | None]
) -> None:
    path = parquet(tmp_path / "a.parquet", image=[b"1", b"2"], label=values)
    assert [member.label for member in read(path, labelled=True)] == expected


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.0, 0.5]),
        pa.array([1.0, float("inf")]),
        pa.array([True, False]),
        pa.array([["a"], ["b"]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"cat", b"\xff"]),
        pa.array([0, 1], pa.date32()),
    ],
)
def test_what_is_no_label_is_refused_with_column_row_and_value(
    tmp_path: Path, values: pa.Array
) -> None:
    path = parquet(tmp_path / "a.parquet", image=[b"1", b"2"], target=values)
    text = refusal(path, labelled=True)
    assert "column 'target', row " in text
    assert "is no label" in text


@given(st.integers(-(2**60), 2**60), st.text(max_size=6))
def test_label_does_not_hang_on_the_type_that_carries_it(number: int, text: str) -> None:
    assert label_text(number) == label_text(str(number)) == label_text(str(number).encode())
    if abs(number) < 2**50:
        assert label_text(float(number)) == label_text(number)
    found = label_text(text)
    assert found == label_text(f"  {text}\n")
    assert label_text(found) == found


def test_names_of_numbered_classes_come_from_hugging_face_metadata(tmp_path: Path) -> None:
    names = hugging_face(fine_label=["cat", " dog ", "cow"])
    path = parquet(tmp_path / "a.parquet", names, image=IMAGES, fine_label=[1, 0, -1])
    assert [member.label for member in read(path, labelled=True)] == ["dog", "cat", None]
    path = parquet(tmp_path / "b.parquet", names, image=IMAGES, fine_label=[1, 0, 3])
    assert "row 2: '3' is no label (its metadata names 3 classes)" in refusal(path, labelled=True)
    path = parquet(tmp_path / "c.parquet", {b"huggingface": b"{"}, image=IMAGES, label=[1, 0, 2])
    assert [member.label for member in read(path, labelled=True)] == ["1", "0", "2"]


def test_partitions_and_class_folders_tell_the_class(root: Store, tmp_path: Path) -> None:
    for number, folder in enumerate(["label=polar%20bear", "label=dog", "cow/deep"]):
        parquet(tmp_path / "in" / folder / "0.parquet", image=[image(number)])
    output = run(root, tmp_path / "in", labelled=True)
    assert class_names(output) == ["cow", "dog", "polar bear"]
    for number, folder in enumerate(["kind=a", "kind=b"]):
        parquet(tmp_path / "named" / folder / "0.parquet", image=[image(number)])
    output = run(root, tmp_path / "named", labelled=True, label_column="kind")
    assert class_names(output) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["polar bear", "dog"], None], [["polar bear", "dog"], None]),
        (["cat dog", ""], [["cat", "dog"], None]),
        (["polar bear,dog", "cat"], [["polar bear", "dog"], ["cat"]]),
    ],
)
def test_tags_are_a_list_or_text(
    root: Store, tmp_path: Path, values: list[Any], expected: list[Any]
) -> None:
    parquet(tmp_path / "in" / "a.parquet", image=[image(0), image(1)], tags=values)
    assert [row["tags"] for row in rows(run(root, tmp_path / "in"))] == expected


def test_tags_split_at_what_separates_them() -> None:
    assert tags_of("a b\tc\n") == ("a", "b", "c")
    assert tags_of("a b; c|d\ne") == ("a b", "c", "d", "e")
    assert tags_of("") is tags_of(" , ") is tags_of(None) is tags_of(3) is None


def test_tables_become_shards(root: Store, tmp_path: Path) -> None:
    images = [image(0), None, image(2)]
    parquet(tmp_path / "in" / "a.parquet", image=images, label=np.array([1, 1, 0]))
    output = run(root, tmp_path / "in", labelled=True, max_reject_percent=50)
    assert rejects(output) == {"a.parquet/000000001": "empty"}
    table = shard_table(output, 0, ["label"])
    assert table["image"].to_pylist() == [image(0), image(2)]
    assert table["label"].to_pylist() == ["1", "0"]
