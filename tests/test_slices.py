"""Slices of a source: they share no image, leave none out, and no image moves to another."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.contract import Output
from tasks.shard import ShardOptions, class_names, sources
from tasks.shard.sources import Slice, list_source, percent_of
from tests.builders.sources import CALM, fill, image, rejects, rows, run, tar_of

NAMES = [f"{number:03d}.png" for number in range(40)]


def keys(output: Output) -> list[str]:
    return [row["key"] for row in rows(output, "key")]


def share(start: float, end: float) -> dict[str, float]:
    return {"from_percent": start, "to_percent": end}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 40 images as loose files, in a tar file and in a table."""
    folder = fill(tmp_path_factory.mktemp("mixed"), *NAMES)
    tar_of(folder / "t.tar", {name: image(number) for number, name in enumerate(NAMES)})
    table = pa.table({"image": [image(number) for number in range(40)], "key": NAMES})
    pq.write_table(table, folder / "p.parquet")
    return folder


@CALM
@given(st.floats(0, 100, exclude_min=True, exclude_max=True, allow_subnormal=False))
def test_two_slices_share_no_image_and_leave_none_out(
    tmp_path_factory: pytest.TempPathFactory, mixed: Path, split: float
) -> None:
    root = open_store(str(tmp_path_factory.mktemp("root")))
    whole = keys(run(root, mixed))
    assert len(whole) == 120
    found: list[str] = []
    for start, end in ((0, split), (split, 100)):
        with contextlib.suppress(ProtegeError):  # a slice without images
            found += keys(run(root, mixed, **share(start, end)))
    assert sorted(found) == sorted(whole)


@given(st.text(max_size=20), st.lists(st.floats(0, 100), min_size=2, max_size=5, unique=True))
def test_every_key_is_in_exactly_one_of_adjoining_slices(key: str, cuts: list[float]) -> None:
    edges = [0, *sorted(set(cuts) - {0.0, 100.0}), 100]
    slices = [Slice(start, end) for start, end in itertools.pairwise(edges)]
    assert sum(key in one for one in slices) == 1
    assert key in Slice()


def test_share_is_about_what_was_asked_for(tmp_path: Path) -> None:
    names = [f"cat/{number}.jpg" for number in range(2000)]
    (tmp_path / "l.txt").write_text("\n".join(names))
    taken = {}
    for percent in (10, 50, 90):
        entries = list_source(str(tmp_path / "l.txt"), labelled=False, within=Slice(0, percent))
        taken[percent] = {entry.key for entry in entries}
        assert len(entries) == pytest.approx(20 * percent, abs=70)
    assert taken[10] < taken[50] < taken[90]


def test_place_of_a_key_is_the_same_for_ever() -> None:
    assert percent_of("cat/1.jpg") == pytest.approx(68.35570803311448, abs=1e-9)
    assert 0 <= percent_of("") < 100


def test_source_that_grows_moves_no_image(root: Store, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    before: dict[float, set[str]] = {0: set(), 50: set()}
    for first in (0, 20):
        fill(folder, *NAMES[first : first + 20])
        tar_of(folder / f"{first}.tar", {name: image(1) for name in NAMES})
        now = {start: set(keys(run(root, folder, **share(start, start + 50)))) for start in before}
        assert all(before[start] < now[start] for start in now)
        before = now
    assert not before[0] & before[50]
    assert before[0] | before[50] == set(keys(run(root, folder)))


def test_images_outside_are_no_input(root: Store, tmp_path: Path) -> None:
    """Neither a reject nor a row; and damage outside the slice is nobody's business."""
    folder = fill(tmp_path / "in", *NAMES)
    outside = [name for name in NAMES if percent_of(name) >= 50]
    for name in outside:
        (folder / name).write_bytes(b"")
    output = run(root, folder, **share(0, 50))
    assert (output.rows_in, output.rejected) == (40 - len(outside), 0)
    assert rejects(output) == {}
    (folder / outside[0]).write_bytes(b"another")
    assert run(root, folder, **share(0, 50)).reused


def test_whole_source_is_not_hashed(
    root: Store, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sources, "percent_of")
    assert run(root, mixed).kept == 120


@pytest.mark.parametrize("kind", ["loose", "tar", "list"])
def test_slice_without_images_is_told_with_the_remedy(
    root: Store, tmp_path: Path, kind: str
) -> None:
    folder = fill(tmp_path / "in", "a.png")
    place = percent_of("t.tar/a.png" if kind == "tar" else "a.png")
    source, message = folder, r"none of its 1 images is in the slice from"
    if kind == "tar":
        (folder / "a.png").unlink()
        tar_of(folder / "t.tar", {"a.png": image(1)})
        message = r"hold no images in the slice from"
    elif kind == "list":
        source = folder / "l.csv"
        source.write_text("uri\na.png\n")
    empty = share(0, place) if place > 50 else share(place + 1e-6, 100)
    with pytest.raises(
        ProtegeError,
        match=rf"{message} .* percent\. Widen options\.from_percent and options\.to_perc",
    ):
        run(root, source, **empty)


@pytest.mark.parametrize("values", [(50, 50), (60, 40), (100, 100), (0, 101), (-1, 50)])
def test_slice_without_a_width_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=r"must be below to_percent|than or equal"):
        ShardOptions(**share(*values))


def test_class_outside_the_slice_is_told_by_its_name(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", *(f"{name}/{at}.png" for name in "abc" for at in range(4)))
    test = run(root, fill(tmp_path / "test", "a/1.png", "b/1.png", "c/1.png"), labelled=True)
    low = min(percent_of(f"c/{at}.png") for at in range(4))
    labelled = run(root, folder, labelled=True, **share(0, low))
    assert {row["label"] for row in rows(labelled, "label")} == {"a", "b"}
    with pytest.raises(ProtegeError, match=r"image: c\. Label some of each, take more .*slice"):
        class_names(labelled, test)


def test_folder_of_containers_is_no_class(root: Store, tmp_path: Path) -> None:
    members: dict[str, Any] = {f"{name}/1.png": image(1) for name in ("cat", "dog")}
    tar_of(tmp_path / "in" / "packed" / "t.tar", members)
    output = run(root, tmp_path / "in", labelled=True)
    assert class_names(output, output) == ["cat", "dog"]
