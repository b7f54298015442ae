"""What is no image is not a broken image; and one bad item does not stop the rest."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.executors import Failures
from infra.store import Store, open_store
from tasks import contract
from tasks.contract import Output
from tasks.shard import recheck_rejects
from tests.builders.containers import parquet, tar_bytes
from tests.builders.sources import CALM, fill, image, rejects, rows, run, tar_of

HTML = b"<html>404</html>"
OTHERS = [".ogg", ".txt", ".svg", ".dat", ".wav", ".pdf", ".zip", ".npy", ".xmp", "", ".weird"]


def passed_over(output: Output) -> dict[str, int]:
    found: dict[str, int] = output.body["extra"]["passed_over"]
    return found


def test_pictures_among_many_files_of_other_kinds_just_work(
    root: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path / "in", *(f"{n}.png" for n in range(4)))
    for ending, count in ((".ogg", 20), (".txt", 9), (".svg", 5), (".dat", 7), (".wav", 2)):
        for number in range(count):
            (folder / f"{number}{ending}").write_bytes(b"RIFF....WAVEfmt ")
    for number in range(7):
        (folder / f"{number}.dat").write_bytes(b"notes of a stamp")
    with caplog.at_level(logging.INFO):
        output = run(root, folder)
    assert (output.rows_in, output.kept, output.rejected) == (11, 4, 7)
    assert set(rejects(output).values()) == {"not_an_image"}
    assert passed_over(output) == {".ogg": 20, ".svg": 5, ".txt": 9, ".wav": 2}
    assert output.body["extra"]["strays"] == {".dat": 7}
    assert "20 .ogg, 9 .txt, 5 .svg, 2 .wav" in caplog.text
    assert "opened, and no images either: 7 .dat" in caplog.text


@CALM
@given(
    st.dictionaries(st.sampled_from(OTHERS), st.integers(1, 4)), st.booleans(), st.integers(1, 6)
)
def test_counts_add_up__and_other_kinds_never_fail_a_stage(
    tmp_path_factory: pytest.TempPathFactory, others: dict[str, int], packed: bool, good: int
) -> None:
    place = tmp_path_factory.mktemp("mixed")
    contents = {f"{n}.png": image(n) for n in range(good)}
    for ending, count in others.items():
        contents |= {f"other{n}{ending}": b"something else" for n in range(count)}
    if packed:
        tar_of(place / "in" / "t.tar", contents)
    else:
        for name, data in contents.items():
            (place / "in").mkdir(exist_ok=True)
            (place / "in" / name).write_bytes(data)
    output = run(open_store(str(place / "root")), place / "in", max_reject_percent=0)
    assert output.kept == good
    assert output.rows_in == output.kept + output.rejected
    counted = sum(passed_over(output).values()) + output.rejected
    notes = others.get(".txt", 0) if packed else 0
    assert sum(others.values()) - notes <= counted <= sum(others.values())


def test_image_that_is_something_else_by_its_bytes_is_a_broken_image(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", *(f"{n}.png" for n in range(8)))
    for name in ("a.jpg", "b.JPEG"):
        (folder / name).write_bytes(HTML)
    (folder / "c").write_bytes(HTML)
    with pytest.raises(ProtegeError, match=r"3 of 11 .*\(3 not_an_image\)"):
        run(root, folder)
    (folder / "b.JPEG").unlink()
    assert run(open_store(f"{root.uri}/2"), folder, max_reject_percent=12).kept == 8


def test_source_of_other_kinds_alone_is_refused(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", "a")
    (tmp_path / "in" / "a").write_bytes(HTML)
    with pytest.raises(ProtegeError, match=r"1 of 1 .*not_an_image"):
        run(root, tmp_path / "in")
    tar_of(tmp_path / "packed" / "t.tar", {"a.ogg": HTML, "b.ogg": HTML})
    with pytest.raises(ProtegeError, match=r"hold no images but other files \(2 \.ogg\)"):
        run(root, tmp_path / "packed")


def test_counts_stay_with_the_snapshot(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "a.ogg").write_bytes(b"")
    tar_of(folder / "t.tar", {"b.png": image(1), "b.ogg": b""})
    first = run(root, folder)
    assert passed_over(first) == {".ogg": 2}
    fill(folder, "c.png")
    (folder / "c.zip").write_bytes(b"")
    second = run(root, folder)
    assert passed_over(second) == {".ogg": 2, ".zip": 1}
    assert passed_over(first) == {".ogg": 2}


def test_stray_that_became_an_image_counts_as_one(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png", "b")
    (folder / "b").write_bytes(b"not yet")
    before = run(root, folder)
    assert (before.kept, before.rejected) == (1, 1)
    (folder / "b").write_bytes(image(3))
    assert recheck_rejects(root, before).usable == 1
    after = run(root, folder)
    assert (after.kept, after.rejected) == (2, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": "*.png"}, {"a.png", "t.tar/b.png"}),
        ({"include": "*.tar"}, {"t.tar/b.png", "t.tar/c.jpg"}),
        ({"exclude": "t.tar/*,*.gif"}, {"a.png"}),
        ({"include": "*.jpg, *.gif", "exclude": "*/c*"}, {"d.gif"}),
    ],
)
def test_patterns_choose_loose_images_and_members(
    root: Store, tmp_path: Path, options: dict[str, Any], expected: set[str]
) -> None:
    folder = fill(tmp_path / "in", "a.png", "d.gif")
    tar_of(folder / "t.tar", {"b.png": image(1), "c.jpg": image(2)})
    output = run(root, folder, **options)
    assert {row["key"] for row in rows(output)} == expected
    assert output.rows_in == len(expected)


# --------------------------------------------------------------------------- bad containers


def harm(path: Path, kind: str) -> None:
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "columns":
        parquet(path, text=["x"])
    else:
        path.write_bytes(HTML * 100)


@pytest.mark.parametrize("kind", ["html", "cut", "columns"])
@pytest.mark.parametrize("name", ["c.tar", "c.parquet"])
def test_bad_container_is_one_reject_when_it_may_be__and_the_others_are_kept(
    root: Store, tmp_path: Path, name: str, kind: str
) -> None:
    folder = tmp_path / "in"
    for tar in ("a.tar", "b.tar"):
        tar_of(folder / tar, {f"{n}.png": image(n) for n in range(3)})
    (folder / name).write_bytes(tar_bytes({"x.png": image(1)}))
    if name.endswith(".parquet"):
        parquet(folder / name, image=[image(1)])
    harm(folder / name, kind)
    with pytest.raises(Failures, match=rf"{folder}/{name}.* .*skip_bad_containers"):
        run(root, folder)
    made = set(Path(root.uri).rglob("part-*"))
    assert len(made) == 2
    output = run(root, folder, skip_bad_containers=True, max_reject_percent=20)
    assert made < set(Path(root.uri).rglob("part-*"))
    assert rejects(output) == {name: "unreadable"}
    assert (output.rows_in, output.kept) == (7, 6)
    (detail,) = output.rejects(["detail"])["detail"].to_pylist()
    assert f"{folder}/{name}" in detail


def test_table_that_is_damaged_further_on_is_one_reject_too(root: Store, tmp_path: Path) -> None:
    path = parquet(tmp_path / "in" / "a.parquet", image=[image(n) for n in range(600)])
    pq.write_table(pq.read_table(path), path, row_group_size=300, compression="none")
    last = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = last.dictionary_page_offset or last.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    fill(tmp_path / "in", "b.png")
    with pytest.raises(Failures, match=r"a\.parquet cannot be read"):
        run(root, tmp_path / "in")
    output = run(root, tmp_path / "in", skip_bad_containers=True, max_reject_percent=50)
    assert rejects(output) == {"a.parquet": "unreadable"}
    assert (output.rows_in, output.kept) == (2, 1)


def test_container_that_is_away_for_now_is_no_reject(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra.store import LocalStore

    tar_of(tmp_path / "in" / "a.tar", {"a.png": image(1)})

    def outage(self: LocalStore, path: str) -> None:
        raise PermissionError("the token has expired")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "local_file", outage)
        with pytest.raises(Failures, match=r"a\.tar cannot be read now: the token has expired"):
            run(root, tmp_path / "in", skip_bad_containers=True)
    assert run(root, tmp_path / "in").kept == 1


def test_mended_container_gets_another_attempt(root: Store, tmp_path: Path) -> None:
    tar_of(tmp_path / "in" / "a.tar", {"a.png": image(1)})
    (tmp_path / "in" / "b.tar").write_bytes(HTML)
    options = {"skip_bad_containers": True, "max_reject_percent": 50}
    before = run(root, tmp_path / "in", **options)
    assert (before.kept, before.rejected) == (1, 1)
    tar_of(tmp_path / "in" / "b.tar", {"x.png": image(1), "y.png": image(2)})
    with pytest.raises(ProtegeError, match="--recheck"):
        run(root, tmp_path / "in", **options)
    assert recheck_rejects(root, before).usable == 1
    after = run(root, tmp_path / "in", **options)
    assert (after.rows_in, after.kept, after.rejected) == (3, 3, 0)
    assert contract.reject_reasons(after) == {}
    assert [row["key"] for row in rows(after)] == ["a.tar/a.png", "b.tar/x.png", "b.tar/y.png"]
    # Made again, the shard of the broken file does not bring its images a second time.
    Path(after.uri, after.manifest).unlink()
    Path(after.uri, "part-00001.parquet").unlink()
    again = run(root, tmp_path / "in", **options)
    assert json.loads(again.store.read(again.manifest))["digest"] == after.digest
