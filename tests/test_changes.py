"""A file that is another now is noticed, whatever its size; one that was only touched is not."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from infra.errors import ProtegeError
from infra.store import Store
from tasks.contract import Output, write_rejects
from tasks.shard import changes, class_names
from tests.builders.sources import fill, rejects, run

ALL = {"max_reject_percent": 100}


def bmp(number: int) -> bytes:
    """An image of the size of all others."""
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(sink, "BMP")
    return sink.getvalue()


def fill_bmp(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bmp(number))
    return folder


def source(folder: Path, kind: str) -> Path:
    """Files of one size, as a folder or as a list."""
    fill_bmp(folder, *(f"{n}.bmp" for n in range(4)))
    if kind == "folder":
        return folder
    listing = folder / "l.csv"
    listing.write_text("uri\n" + "\n".join(f"{n}.bmp" for n in range(4)))
    return listing


def replace(path: Path, data: bytes) -> None:
    """Another content of the same size, at another time."""
    before = path.stat()
    assert before.st_size == len(data)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def lose(output: Output, name: str = "part-00000.parquet") -> None:
    Path(output.uri, name).unlink()


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_file_of_equal_size_is_noticed__and_a_touched_one_is_not(
    root: Store, tmp_path: Path, kind: str
) -> None:
    place = source(tmp_path / "in", kind)
    run(root, place)
    for path in (tmp_path / "in").iterdir():
        os.utime(path, ns=(1, 1))
    assert run(root, place).reused
    replace(tmp_path / "in" / "1.bmp", bmp(2))
    for _ in range(2):
        with pytest.raises(ProtegeError, match=r"1 files have changed .*1\.bmp"):
            run(root, place)
    replace(tmp_path / "in" / "1.bmp", bmp(1))
    assert run(root, place).reused


def test_of_very_many_touched_files_some_are_compared(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_COMPARED", 3)
    folder = fill_bmp(tmp_path / "in", *(f"{n}.bmp" for n in range(8)))
    run(root, folder)
    for path in folder.iterdir():
        os.utime(path, ns=(1, 1))
    assert run(root, folder).reused
    for path in folder.iterdir():
        replace(path, bmp(200 + int(path.stem)))
    with pytest.raises(ProtegeError, match="3 files have changed"):
        run(root, folder)


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_lost_part_that_becomes_another_is_another_output(
    root: Store, tmp_path: Path, kind: str
) -> None:
    place = source(tmp_path / "in", kind)
    output = run(root, place)
    lose(output)
    assert run(root, place).digest == output.digest
    lose(output)
    replace(tmp_path / "in" / "1.bmp", bmp(2))
    assert run(root, place).digest != output.digest


def test_what_is_replaced_before_it_was_read_is_what_was_read(root: Store, tmp_path: Path) -> None:
    folder = fill_bmp(tmp_path / "in", "a.bmp", "b.bmp")
    output = run(root, folder)
    lose(output)
    Path(output.uri, output.manifest).unlink()
    replace(folder / "a.bmp", bmp(3))
    assert run(root, folder).kept == 2
    assert run(root, folder).reused


def test_reject_that_is_taken_out_of_a_labelled_source_is_mended(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "cat/1.png", "dog/2.png", "dog/bad.png", "cow/bad.png")
    for bad in folder.rglob("bad.png"):
        bad.write_bytes(b"")
    output = run(root, folder, labelled=True, **ALL)
    assert set(rejects(output)) == {"dog/bad.png", "cow/bad.png"}
    with pytest.raises(ProtegeError, match="class 'cow' has no usable labelled image"):
        class_names(output)
    for bad in folder.rglob("bad.png"):
        bad.unlink()
    (folder / "cow").rmdir()
    assert class_names(run(root, folder, labelled=True, **ALL)) == ["cat", "dog"]
    (folder / "cat" / "1.png").unlink()
    fill(folder, "cat/3.png")
    with pytest.raises(ProtegeError, match=r"0 files have changed and 1 are gone .*cat/1\.png"):
        run(root, folder, labelled=True, **ALL)


def test_rejects_of_an_attempt_that_died_do_not_count(root: Store, tmp_path: Path) -> None:
    """They are published first; the part that was made after all may have none."""
    folder = fill(tmp_path / "in", "cat/1.png", "dog/2.png")
    images = run(root, folder, labelled=True)
    row = {"image_id": 0, "key": "cat/1.png", "reason": "unreadable", "detail": "away"}
    write_rejects(images.store, 0, [row])
    (folder / "cat" / "1.png").unlink()
    fill(folder, "cat/3.png")
    with pytest.raises(ProtegeError, match=r"0 files have changed and 1 are gone .*cat/1\.png"):
        run(root, folder, labelled=True)


def test_listed_file_that_was_missing_is_no_change(root: Store, tmp_path: Path) -> None:
    place = source(tmp_path / "in", "list")
    (tmp_path / "in" / "1.bmp").unlink()
    before = run(root, place, **ALL)
    assert before.rejected == 1
    fill_bmp(tmp_path / "in", "x.bmp", "1.bmp")
    assert run(root, place, **ALL).reused
