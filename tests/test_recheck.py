"""Another attempt at rejects: mended files come in once, and what was made stays as it was."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import LocalStore, Store, open_store
from tasks import contract
from tasks.contract import Output
from tasks.shard import Recheck, ShardOptions, class_names, pin, recheck_rejects, shard
from tasks.tables import image_id
from tests.builders.sources import CALM, files, fill, image, rows, run, tar_of

ALL = {"max_reject_percent": 100}


def options_of(source: Path | str, **options: Any) -> ShardOptions:
    return ShardOptions(source=str(source), **{**ALL, **options})


def ids(output: Output) -> dict[str, int]:
    found = rows(output, "key", "image_id")
    assert len({row["image_id"] for row in found}) == len(found)
    assert len({row["key"] for row in found}) == len(found)
    return {row["key"]: row["image_id"] for row in found}


def tables_in(output: Output) -> dict[str, bytes]:
    return {name: data for name, data in files(output.uri).items() if name.endswith(".parquet")}


def counts(output: Output) -> tuple[int, int, int]:
    assert sum(contract.reject_reasons(output).values()) == output.rejected
    return output.rows_in, output.kept, output.rejected


def test_missing_file_that_was_put_back_comes_in(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png", "b.png", "c.png")
    options = options_of(folder)
    snapshot = pin(root, options)
    (folder / "b.png").unlink()
    before = shard(root, options, snapshot=snapshot)
    (folder / "b.png").write_bytes(image(1))
    assert counts(run(root, folder, **ALL)) == (3, 2, 1)
    made = tables_in(before)
    assert recheck_rejects(root, before) == Recheck(1, {}, 0, 0)
    after = shard(root, options)
    assert counts(after) == (3, 3, 0)
    assert ids(after) == {
        "a.png": image_id(0, 0),
        "c.png": image_id(0, 2),
        "b.png": image_id(1, 0),
    }
    now = tables_in(after)
    assert {name: now[name] for name in made} == made
    assert counts(before) == (3, 2, 1)
    assert shard(root, options, snapshot=snapshot).reused
    assert after.digest != before.digest


def test_damaged_file_that_was_mended_is_told_with_the_remedy__and_comes_in(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "a.png", "b.png")
    (folder / "b.png").write_bytes(image(1)[:40])
    before = run(root, folder, **ALL)
    (folder / "b.png").write_bytes(image(1))
    with pytest.raises(
        ProtegeError, match=rf"1 files have changed.*`protege rejects --recheck {before.uri}`"
    ):
        run(root, folder, **ALL)
    assert recheck_rejects(root, before).usable == 1
    after = run(root, folder, **ALL)
    assert counts(after) == (2, 2, 0)
    assert after.body["rechecked"] == {"damaged": 1}
    assert run(root, folder, **ALL).reused


def test_every_reject_is_counted_once__and_only_what_can_be_used_is_taken(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "good.png", "gone.png", *(f"{n}.png" for n in range(4)))
    tar_of(folder / "t.tar", {"x.png": b"", "y.png": image(3)})
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"")
    options = options_of(folder, images_per_shard=2)
    snapshot = pin(root, options)
    (folder / "gone.png").unlink()
    before = shard(root, options, snapshot=snapshot)
    assert counts(before) == (8, 2, 6)
    for number in (0, 2):
        (folder / f"{number}.png").write_bytes(image(number))
    (folder / "3.png").write_bytes(b"<html>")
    recheck = recheck_rejects(root, before)
    assert recheck == Recheck(2, {"empty": 1, "not_an_image": 1, "unreadable": 1}, 1, 0)
    assert recheck.lines() == [
        "2 can be used now: the next run takes them in",
        "3 still cannot be used (1 empty, 1 not_an_image, 1 unreadable)",
        "1 lie in .tar or .parquet files: mend these images and add them to the source in a file "
        "of their own, which the next run takes in",
    ]
    after = shard(root, options)
    assert counts(after) == (8, 4, 4)
    assert contract.reject_reasons(after) == {"empty": 2, "not_an_image": 1, "unreadable": 1}
    assert set(ids(after)) == {"good.png", "0.png", "2.png", "t.tar/y.png"}


def test_nothing_to_mend_pins_nothing(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png")
    assert recheck_rejects(root, run(root, folder)).lines() == ["there are no rejects"]
    (folder / "b.png").write_bytes(b"")
    output = run(root, folder, **ALL)
    before = files(output.uri)
    assert recheck_rejects(root, output) == Recheck(0, {"empty": 1}, 0, 0)
    assert files(output.uri) == before


def test_called_again_it_pins_nothing_twice(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "b.png").write_bytes(b"")
    before = run(root, folder, **ALL)
    (folder / "b.png").write_bytes(image(1))
    recheck_rejects(root, before)
    pins = files(f"{before.uri}/pins")
    assert len(pins) == 2
    assert recheck_rejects(root, before) == Recheck(0, {}, 0, 1)
    after = run(root, folder, **ALL)
    for output in (before, after):
        assert recheck_rejects(root, output).lines() == ["1 have had another attempt before"]
    assert files(f"{before.uri}/pins") == pins
    assert run(root, folder, **ALL).reused


def test_image_that_broke_again_is_a_reject_again__and_may_be_mended_again(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "b.png").write_bytes(b"")
    before = run(root, folder, **ALL)
    (folder / "b.png").write_bytes(image(1))
    recheck_rejects(root, before)
    snapshot = pin(root, options_of(folder))
    (folder / "b.png").write_bytes(b"<html>")
    broken = shard(root, options_of(folder), snapshot=snapshot)
    assert counts(broken) == (2, 1, 1)
    assert contract.reject_reasons(broken) == {"not_an_image": 1}
    (folder / "b.png").write_bytes(image(1))
    assert recheck_rejects(root, broken) == Recheck(1, {}, 0, 1)
    after = run(root, folder, **ALL)
    assert counts(after) == (2, 2, 0)
    assert ids(after) == {"a.png": image_id(0, 0), "b.png": image_id(2, 0)}


@pytest.mark.parametrize("first", ["growth", "recheck"])
def test_growth_and_retry_go_together_in_either_order(
    root: Store, tmp_path: Path, first: str
) -> None:
    folder = fill(tmp_path / "in", "b.png", "d.png")
    (folder / "c.png").write_bytes(b"")
    before = run(root, folder, **ALL)
    mended = image(7)
    if first == "growth":
        fill(folder, "a.png")
        grown = run(root, folder, **ALL)
        assert counts(grown) == (4, 3, 1)
        (folder / "c.png").write_bytes(mended)
        recheck_rejects(root, grown)
    else:
        (folder / "c.png").write_bytes(mended)
        recheck_rejects(root, before)
        fill(folder, "a.png")
    after = run(root, folder, **ALL)
    new = {"a.png": image_id(1, 0), "c.png": image_id(2, 0)}
    if first == "recheck":
        new = {"c.png": image_id(1, 0), "a.png": image_id(2, 0)}
    assert ids(after) == {"b.png": image_id(0, 0), "d.png": image_id(0, 2), **new}
    assert counts(after) == (4, 4, 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "mend", "spoil", "lose"]), st.integers(0, 7)),
    min_size=1,
    max_size=8,
)


@CALM
@given(st.lists(STEPS, min_size=1, max_size=4), st.integers(1, 4))
def test_whatever_is_added_and_mended__all_good_images_are_kept_once(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[Any], per_shard: int
) -> None:
    """`spoil` adds or changes a bad file; `lose` loses a part, which is then made again."""
    folder = tmp_path_factory.mktemp("rounds")
    root = open_store(str(folder / "root"))
    source = fill(folder / "in", "always.png")
    options = options_of(source, images_per_shard=per_shard)
    output = shard(root, options)
    good = {"always.png"}
    for number, steps in enumerate(rounds):
        made = tables_in(output)
        for step, name in steps:
            path = source / f"{name}.png"
            if step in {"add", "mend"} and path.name not in good:
                path.write_bytes(image(name))
                good.add(path.name)
            elif step == "spoil" and path.name not in good:
                path.write_bytes(b"x" * number)
            elif step == "lose" and contract.part_name(name) in made:
                output.store.delete(contract.part_name(name))
        recheck_rejects(root, output)
        output = shard(root, options)
        assert set(ids(output)) == good
        total = len(list(source.iterdir()))
        assert counts(output) == (total, len(good), total - len(good))
        now = tables_in(output)
        parts = [name for name in made if not name.startswith("rejects-")]
        assert {name: now[name] for name in parts} == {name: made[name] for name in parts}
    assert shard(root, options).reused


def test_run_that_failed_for_its_rejects_goes_through_when_they_are_mended(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", *(f"{n}.png" for n in range(9)))
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(
        ProtegeError, match=r"1 of 10 .*Mend them and run `protege rejects --recheck .*shard"
    ):
        run(root, folder)
    (folder / "a.png").write_bytes(image(1))
    recheck_rejects(root, run_of_failed(root, folder))
    assert counts(run(root, folder)) == (10, 10, 0)


def run_of_failed(root: Store, folder: Path) -> Output:
    """The output of a run that had too many rejects: it is published before it is refused."""
    (store,) = [open_store(str(path)) for path in Path(f"{root.uri}/shard").iterdir()]
    (name,) = [name for name in store.sizes() if name.startswith("manifest-")]
    output = contract.find_output(store, name)
    assert output is not None
    return output


def test_share_of_rejects_is_of_images__not_of_attempts(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png", "b.png")
    for name in ("c.png", "d.png"):
        (folder / name).write_bytes(b"")
    before = run(root, folder, **ALL)
    (folder / "c.png").write_bytes(image(1))
    recheck_rejects(root, before)
    assert counts(run(root, folder, max_reject_percent=25)) == (4, 3, 1)
    with pytest.raises(ProtegeError, match=r"1 of 4 images .* \(1 empty\)"):
        run(root, folder, max_reject_percent=24)


def test_kill_after_the_pins_leaves_only_the_new_shards_to_be_made(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "b.png").write_bytes(b"")
    before = run(root, folder, **ALL)
    (folder / "b.png").write_bytes(image(1))
    made = files(before.uri)
    recheck_rejects(root, before)
    assert set(files(before.uri)) - set(made) == {"pins/00001.parquet"}
    after = run(root, folder, **ALL)
    new = {"pins/00001.parquet", "part-00001.parquet", after.manifest}
    assert set(files(before.uri)) - set(made) == new
    assert {name: data for name, data in files(before.uri).items() if name in made} == made


def test_failure_while_it_pins_leaves_everything_as_it_was(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "in", "a.png")
    (folder / "b.png").write_bytes(b"")
    before = run(root, folder, **ALL)
    (folder / "b.png").write_bytes(image(1))
    made = files(before.uri)

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    def outage(self: LocalStore, path: str) -> bytes:
        raise PermissionError("the token has expired")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            recheck_rejects(root, before)
    assert before.body  # the manifest has been read
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read", outage)
        with pytest.raises(ProtegeError, match="cannot be read now: the token has expired"):
            recheck_rejects(root, before)
    assert files(before.uri) == made
    assert recheck_rejects(root, before).usable == 1


@pytest.mark.parametrize("snapshot", ["old", "new"])
def test_lost_part_that_is_made_again_does_not_bring_an_image_twice(
    root: Store, tmp_path: Path, snapshot: str
) -> None:
    """Its file is good by now, but has its place elsewhere: the part must be as it was."""
    folder = fill(tmp_path / "in", *(f"{n}.png" for n in range(6)))
    (folder / "3.png").write_bytes(b"")
    options = options_of(folder, images_per_shard=2)
    old = pin(root, options)
    before = shard(root, options)
    (folder / "3.png").write_bytes(image(3))
    recheck_rejects(root, before)
    after = shard(root, options)
    part = after.store.read("part-00001.parquet")
    after.store.delete("part-00001.parquet")
    again = shard(root, options, snapshot=old if snapshot == "old" else None)
    assert after.store.read("part-00001.parquet") == part
    assert again.digest == (before if snapshot == "old" else after).digest
    assert counts(again) == ((6, 5, 1) if snapshot == "old" else (6, 6, 0))
    assert contract.reject_reasons(before) == {"empty": 1}


def test_retries_at_once_give_every_file_one_place(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", *(f"{n}.png" for n in range(12)))
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"")
    before = run(root, folder, images_per_shard=5, **ALL)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(image(number))
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        recheck_rejects(root, before)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = run(root, folder, images_per_shard=5, **ALL)
    assert counts(after) == (12, 12, 0)
    assert len(ids(after)) == 12


def test_listed_image_is_taken_with_the_label_of_now(root: Store, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "cat.png", "dog.png")
    listed = folder / "l.csv"
    listed.write_text("uri,label\ncat.png,cat\ndog.png,dog\nlate.png,dgo\nlate.png,dgo\n")
    before = run(root, listed, labelled=True, **ALL)
    assert counts(before) == (3, 2, 1)
    fill(folder, "late.png")
    listed.write_text(listed.read_text().replace("dgo", "dog"))
    with pytest.raises(ProtegeError, match="files have changed"):
        run(root, listed, labelled=True, **ALL)
    assert recheck_rejects(root, before).usable == 1
    after = run(root, listed, labelled=True, **ALL)
    assert counts(after) == (3, 3, 0)
    assert class_names(after, after) == ["cat", "dog"]


def test_source_and_root_on_s3(s3: str) -> None:
    source, root = open_store(f"{s3}/mended"), open_store(f"{s3}/mended-root")
    for name, data in {"a.png": image(1), "b.png": b"", "c.png": image(2)}.items():
        source.replace(name, data)
    options = options_of(source.uri)
    snapshot = pin(root, options)
    source.delete("c.png")
    before = shard(root, options, snapshot=snapshot)
    assert counts(before) == (3, 1, 2)
    made = files(before.uri)
    source.replace("b.png", image(3))
    source.replace("c.png", image(2))
    with pytest.raises(
        ProtegeError, match=r"1 files have changed .*protege rejects --recheck s3://"
    ):
        shard(root, options)
    assert recheck_rejects(root, before) == Recheck(2, {}, 0, 0)
    after = shard(root, options)
    assert counts(after) == (3, 3, 0)
    assert ids(after) == {
        "a.png": image_id(0, 0),
        "b.png": image_id(1, 0),
        "c.png": image_id(1, 1),
    }
    assert {name: data for name, data in files(after.uri).items() if name in made} == made


def test_source_is_found_again_from_another_folder(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "in" / "b.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    output = run(root, "in", **ALL)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "b.png").write_bytes(image(1))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert recheck_rejects(root, output).usable == 1
