"""Copies of labelled images among the test images are listed, said, and an error when many."""

import io
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import ProtegeError
from infra.store import Store
from tasks.contract import Output
from tasks.duplicates.leakage import check_leakage, leakage
from tasks.duplicates.signature import signature
from tasks.shard import read_keys
from tests.builders.photos import crops
from tests.builders.sources import run

OPTION = "approval.max_copies_percent"


PHOTOS = crops(24, seed=5)


def jpeg(number: int, quality: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(PHOTOS[number]).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def sources(root: Store, tmp_path: Path) -> tuple[Output, Output]:
    """Of ten test images, one is a labelled one, and one is it at another quality."""
    labelled = {f"a/{n}.jpg": jpeg(n, 95) for n in range(4)}
    test = {f"a/{n}.jpg": jpeg(10 + n, 95) for n in range(8)}
    test |= {"a/same.jpg": jpeg(1, 95), "a/again.jpg": jpeg(2, 60)}
    return (
        run(root, write(tmp_path / "labelled", labelled), labelled=True),
        run(root, write(tmp_path / "test", test), labelled=True),
    )


def test_copies_are_listed_with_what_they_are_copies_of(
    root: Store, sources: tuple[Output, Output]
) -> None:
    labelled, test = sources
    signatures = {"labelled": signature(root, labelled), "test": signature(root, test)}
    table = leakage(root, labelled, test, signatures).table("leaks")
    copies = read_keys(test, table["image_id"].to_numpy())
    originals = read_keys(labelled, table["labelled_id"].to_numpy())
    found = set(zip(copies, originals, table["exact"].to_pylist()))
    assert found == {("a/same.jpg", "a/1.jpg", True), ("a/again.jpg", "a/2.jpg", False)}
    exact = leakage(root, labelled, test)
    assert (exact.kept, exact.body["extra"]["exact"]) == (1, 1)


def test_many_copies_are_an_error_and_few_a_warning(
    root: Store, sources: tuple[Output, Output], caplog: pytest.LogCaptureFixture
) -> None:
    leaks = leakage(root, *sources)
    with pytest.raises(ProtegeError, match=r"1 of 10 test images are copies .*raise approval\.max"):
        check_leakage(leaks, 9, OPTION)
    assert not caplog.messages
    check_leakage(leaks, 10, OPTION)
    assert "1 of 10 test images are copies of labelled ones" in caplog.text


def test_sources_without_copies_say_nothing(
    root: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labelled = run(root, write(tmp_path / "l", {"a/1.jpg": jpeg(1, 95)}), labelled=True)
    test = run(root, write(tmp_path / "t", {"a/1.jpg": jpeg(7, 95)}), labelled=True)
    signatures = {"labelled": signature(root, labelled), "test": signature(root, test)}
    check_leakage(leakage(root, labelled, test, signatures), 0, OPTION)
    assert not caplog.messages
