"""Pinning and packing: no image is lost, no id is used twice, what is broken is a reject row."""

import dataclasses
import io
import json
import multiprocessing
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infra.errors import ProtegeError
from infra.executors import Cluster, Failures
from infra.store import LocalStore, Store, open_store
from tasks import contract, tables
from tasks.contract import Output, PartId
from tasks.shard import ShardOptions, Snapshot, class_names, pin, shard
from tasks.shard.part import ShardJob, shard_images
from tasks.shard.pins import GROUP_ROWS, images_target, shard_pins
from tasks.shard.sources import Listing, SourceFile
from tasks.tables import image_id
from tests.builders.shards import shard_table
from tests.builders.sources import CALM, files, fill, image, rejects, rows, run, tar_of
from tests.builders.waiting import EVENT_SECONDS

RNG = np.random.default_rng(0)


# ------------------------------------------------------------------------------- nothing is lost


def zoo(folder: Path) -> dict[str, str]:
    """Files of every bad kind; their reasons by name."""
    good = image(1)
    jpeg = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(jpeg, "JPEG")
    data = jpeg.getvalue()
    at = data.index(b"\xff\xc0") + 5
    huge = data[:at] + struct.pack(">HH", 65_500, 65_500) + data[at + 4 :]
    bad = {
        "cut.jpg": (data[: len(data) // 2], "damaged"),
        "flip.png": (good[:45] + bytes([good[45] ^ 1]) + good[46:], "damaged"),
        "empty.jpg": (b"", "empty"),
        "error.jpg": (b"<html>404</html>", "not_an_image"),
        "huge.jpg": (huge, "too_many_pixels"),
        "notes": (b"these are notes", "not_an_image"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "good.jpg").write_bytes(data)
    (folder / "really-a-png.jpg").write_bytes(good)
    return {"gone.jpg": "unreadable", **{name: reason for name, (_, reason) in bad.items()}}


def test_every_bad_file_is_a_reject_with_its_reason__and_none_is_lost(
    root: Store, tmp_path: Path
) -> None:
    (tmp_path / "zoo").mkdir()
    expected = zoo(tmp_path / "zoo")
    output = run(root, tmp_path / "zoo", images_per_shard=4, max_reject_percent=100)
    assert rejects(output) == expected
    assert [row["key"] for row in rows(output)] == ["good.jpg", "really-a-png.jpg"]
    assert output.rows_in == output.kept + output.rejected == len(expected) + 2


def test_header_check_leaves_damage_behind_the_header_to_later_stages(
    root: Store, tmp_path: Path
) -> None:
    (tmp_path / "zoo").mkdir()
    expected = zoo(tmp_path / "zoo")
    output = run(root, tmp_path / "zoo", verify="header", max_reject_percent=100)
    late = {"cut.jpg", "flip.png"}
    assert rejects(output) == {key: why for key, why in expected.items() if key not in late}
    assert output.rows_in == len(expected) + 2


def test_too_many_rejects_fail_with_counts_by_reason__also_when_asked_again(
    root: Store, tmp_path: Path
) -> None:
    fill(tmp_path / "in", *(f"{n}.png" for n in range(8)))
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    (tmp_path / "in" / "b.jpg").write_bytes(b"<html>")
    for _ in range(2):
        with pytest.raises(ProtegeError, match=r"2 of 10 .* \(1 empty, 1 not_an_image\).* Mend"):
            run(root, tmp_path / "in")
    assert run(root, tmp_path / "in", max_reject_percent=20).kept == 8


def test_file_deleted_between_pin_and_read_is_a_reject(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", "a.png", "b.png", "c.png")
    options = ShardOptions(source=str(tmp_path / "in"), max_reject_percent=50)
    snapshot = pin(root, options)
    (tmp_path / "in" / "b.png").unlink()
    output = shard(root, options, snapshot=snapshot)
    assert rejects(output) == {"b.png": "unreadable"}
    assert [row["image_id"] for row in rows(output)] == [
        image_id(0, 0),
        image_id(0, 2),
    ]


def test_deleted_object_on_s3_is_a_reject_too(root: Store, s3: str) -> None:
    store = open_store(f"{s3}/deleted")
    for name in ("a.png", "b.png"):
        store.replace(name, image(1))
    options = ShardOptions(source=store.uri, max_reject_percent=50)
    snapshot = pin(root, options)
    store.delete("a.png")
    assert rejects(shard(root, options, snapshot=snapshot)) == {"a.png": "unreadable"}


def test_outage_fails_the_shard__and_makes_no_rejects(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "in", "a.png", "b.png")
    options = ShardOptions(source=str(tmp_path / "in"))
    snapshot = pin(root, options)
    read = LocalStore.read

    def outage(self: LocalStore, path: str) -> bytes:
        if path.endswith(".png"):
            raise PermissionError("the token has expired")
        return read(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "read", outage)
        with pytest.raises(Failures, match="cannot be read now: the token has expired"):
            shard(root, options, snapshot=snapshot)
    place = open_store(f"{root.uri}/shard/{snapshot.fingerprint}")
    assert list(place.sizes()) == list(snapshot.increments)
    assert run(root, tmp_path / "in").kept == 2


def test_file_too_large_to_be_an_image_is_not_read(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", "a.png")
    with (tmp_path / "in" / "disk.img").open("wb") as file:
        file.truncate(2 << 30)
    output = run(root, tmp_path / "in", max_reject_percent=50)
    assert rejects(output) == {"disk.img": "unreadable"}


# ----------------------------------------------------------------------------- sources that grow


@CALM
@given(
    st.lists(st.sets(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_source_that_grows_keeps_what_there_was__byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, additions: list[set[int]], per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("grow")
    root = open_store(str(folder / "root"))
    options = ShardOptions(source=str(folder / "in"), images_per_shard=per_shard)
    ids: dict[str, int] = {}
    before: dict[str, bytes] = {}
    for numbers in additions:
        names = [f"{number:02d}.png" for number in sorted(numbers)]
        fill(folder / "in", *(name for name in names if not (folder / "in" / name).exists()))
        output = shard(root, options)
        now = files(output.uri)
        assert {name: now[name] for name in before} == before
        found = {row["key"]: row["image_id"] for row in rows(output)}
        assert {key: found[key] for key in ids} == ids
        assert len(set(found.values())) == len(found) == len(list((folder / "in").iterdir()))
        assert output.rows_in == output.kept == len(found)
        ids, before = found, now
    assert shard(root, options).reused


@CALM
@given(st.sets(st.text("abz/_.", min_size=1, max_size=6), min_size=1, max_size=15), st.data())
def test_any_shard_size_gives_the_same_images_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    fill(folder / "in", *(f"{name.replace('/', 'd/d').strip('.')}x.png" for name in sorted(names)))
    tar_of(folder / "in" / "m.tar", {f"{n}.png": image(n) for n in range(5)})
    orders = []
    for per_shard in (1, data.draw(st.integers(2, 9)), 100):
        output = run(open_store(str(folder / "root")), folder / "in", images_per_shard=per_shard)
        found = rows(output, "image_id", "key", "size")
        assert [row["image_id"] for row in found] == sorted(row["image_id"] for row in found)
        orders.append([(row["key"], row["size"]) for row in found])
    assert orders[0] == orders[1] == orders[2]


def test_new_container_between_old_files_gets_a_later_shard(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", "a.png", "z.png")
    first = run(root, tmp_path / "in")
    tar_of(tmp_path / "in" / "m.tar", {"x.png": image(1), "y.png": image(2)})
    second = run(root, tmp_path / "in")
    assert [row["image_id"] for row in rows(first)] == [
        image_id(0, 0),
        image_id(0, 1),
    ]
    assert [(row["key"], row["image_id"]) for row in rows(second)] == [
        ("a.png", image_id(0, 0)),
        ("z.png", image_id(0, 1)),
        ("m.tar/x.png", image_id(1, 0)),
        ("m.tar/y.png", image_id(1, 1)),
    ]
    assert contract.find_output(first.store, first.manifest) is not None


def test_same_source_by_another_spelling_is_the_same_output(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "my in", "a.png")
    first = run(root, tmp_path / "my in")
    for spelling in (f"{tmp_path}/my in/", f"file://{tmp_path}/my%20in"):
        assert run(root, spelling).uri == first.uri


def pin_in_process(root: str, source: str, start: Any, results: Any) -> None:
    start.wait()
    options = ShardOptions(source=source, images_per_shard=7)
    results.put(dataclasses.asdict(pin(open_store(root), options)))


def test_two_processes_that_pin_at_once_agree(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", *(f"{n:03d}.png" for n in range(60)))
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    work = [
        context.Process(
            target=pin_in_process, args=(root.uri, str(tmp_path / "in"), start, results)
        )
        for _ in range(2)
    ]
    for process in work:
        process.start()
    first, second = results.get(timeout=EVENT_SECONDS), results.get(timeout=EVENT_SECONDS)
    for process in work:
        process.join()
    assert first == second
    assert len(first["increments"]) == 1


def test_pins_at_once_of_different_listings_give_every_file_one_place(
    root: Store, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "in", *(f"{n:03d}.png" for n in range(20)))
    options = ShardOptions(source=str(folder), images_per_shard=3)
    snapshots: list[Snapshot] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        # Moved into place, as a file that is still being written would later count as changed.
        aside = fill(tmp_path / f"{number}", *(f"new-{number}-{n}.png" for n in range(5)))
        for path in aside.iterdir():
            path.rename(folder / path.name)
        snapshots.append(pin(root, options))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = pin(root, options)
    found = rows(shard(root, options, snapshot=last))
    assert len(found) == len({row["key"] for row in found}) == 40
    assert len({row["image_id"] for row in found}) == 40
    assert all(last.increments[: len(one.increments)] == one.increments for one in snapshots)


@pytest.mark.parametrize("harm", ["torn", "missing"])
def test_harmed_pins_are_refused__ids_would_be_given_twice(
    root: Store, tmp_path: Path, harm: str
) -> None:
    for round_number in range(2):
        fill(tmp_path / "in", f"{round_number}.png")
        output = run(root, tmp_path / "in")
    path = Path(output.uri) / "pins" / "00000.parquet"
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:50])
    else:
        path.unlink()
    with pytest.raises(
        ProtegeError, match=r"pins of this source are damaged.*Bring that file back"
    ):
        run(root, tmp_path / "in")


# ---------------------------------------------------------------------------- parts and resuming


def unfinished(output: Output) -> None:
    """As after a kill before the end: the parts are there, the manifest is not."""
    output.store.delete(output.manifest)


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
def test_part_torn_on_disk_is_made_again(root: Store, tmp_path: Path, left: float) -> None:
    fill(tmp_path / "in", *(f"{n}.png" for n in range(9)))
    output = run(root, tmp_path / "in", images_per_shard=3)
    before = files(output.uri)
    path = Path(output.uri) / "part-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left if left >= 1 else left * len(whole))])
    unfinished(output)
    again = run(root, tmp_path / "in", images_per_shard=3)
    now = files(again.uri)
    assert {n: d for n, d in now.items() if n != again.manifest} == {
        n: d for n, d in before.items() if n != again.manifest
    }
    assert again.digest == output.digest


def test_lost_part_is_the_only_one_made_again(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", *(f"{n}.png" for n in range(9)))
    output = run(root, tmp_path / "in", images_per_shard=3)
    times = {name: entry.version for name, entry in output.store.sizes().items()}
    unfinished(output)
    output.store.delete("part-00002.parquet")
    again = run(root, tmp_path / "in", images_per_shard=3)
    now = {name: entry.version for name, entry in again.store.sizes().items()}
    assert {name for name in times if now[name] != times[name]} == {
        "part-00002.parquet",
        again.manifest,
    }
    assert again.digest == output.digest


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_loser_of_a_part_takes_the_receipt_of_the_winner(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    base = str(tmp_path) if kind == "disk" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    fill(tmp_path / "in", "a.png", "b.png")
    options = ShardOptions(source=str(tmp_path / "in"), max_reject_percent=50)
    snapshot = pin(open_store(f"{base}/root"), options)
    job = ShardJob(f"{base}/root/shard/{snapshot.fingerprint}", options, snapshot)
    winner = shard_images(job, PartId(0))
    (tmp_path / "in" / "b.png").unlink()
    loser = shard_images(job, PartId(0))
    assert dataclasses.replace(loser, seconds={}) == dataclasses.replace(winner, seconds={})
    assert winner.kept == 2


def test_failure_in_mid_write_shows_no_part__and_the_next_run_makes_it(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "in", "a.png")
    snapshot = pin(root, ShardOptions(source=str(tmp_path / "in")))

    def no_space(file: int) -> None:
        if "/leases/" not in str(Path(f"/proc/self/fd/{file}").readlink()):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(Failures, match="No space left"):
            run(root, tmp_path / "in")
    place = open_store(f"{root.uri}/shard/{snapshot.fingerprint}")
    assert list(place.sizes()) == list(snapshot.increments)
    assert run(root, tmp_path / "in").kept == 1


def test_cluster_makes_the_same_bytes_as_one_process(
    cluster: Cluster, tmp_path: Path, root: Store
) -> None:
    fill(tmp_path / "in", *(f"{n}.png" for n in range(12)))
    options = ShardOptions(source=str(tmp_path / "in"), images_per_shard=2)
    ours = shard(root, options)
    theirs = shard(open_store(str(tmp_path / "other")), options, executor=cluster)
    mine, other = files(ours.uri), files(theirs.uri)
    del mine[ours.manifest], other[theirs.manifest]
    assert mine == other
    assert ours.digest == theirs.digest


# ------------------------------------------------------------------------- containers, lists, S3


@pytest.mark.parametrize("how", ["reference", "copy"])
def test_tar_in_place_and_copied_give_the_same_images(
    root: Store, tmp_path: Path, how: str
) -> None:
    contents = {f"cat/{n}.png": image(n) for n in range(5)} | {"dog/x.png": b"", "x.txt": b"-"}
    tar_of(tmp_path / "in" / "a.tar", contents)
    output = run(root, tmp_path / "in", containers=how, labelled=True, max_reject_percent=50)
    assert output.rows_in == 6
    assert rejects(output) == {"a.tar/dog/x.png": "empty"}
    assert all((row["image"] is None) == (how == "reference") for row in rows(output))
    table = shard_table(output, 0, ["key", "label"])
    assert table["image"].to_pylist() == [image(n) for n in range(5)]
    assert set(table["label"].to_pylist()) == {"cat"}
    some = shard_table(
        output,
        0,
        only=np.array([image_id(0, 1), image_id(0, 3), image_id(7, 7)]),
    )
    assert some["image"].to_pylist() == [image(1), image(3)]


def test_tar_whose_images_changed_under_their_places_is_told(root: Store, tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "in" / "a.tar", {"1.png": image(1), "2.png": image(2)})
    images, before = run(root, tmp_path / "in"), tar.stat()
    tar_of(tar, {"1.png": image(2), "2.png": image(1)})
    assert tar.stat().st_size == before.st_size
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ProtegeError, match="has changed since it was pinned"):
        shard_table(images, 0)


def test_tar_that_shrank_after_pinning_is_told__not_scored(root: Store, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "in" / "a.tar", {f"{n}.png": image(n) for n in range(5)})
    output = run(root, tmp_path / "in")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ProtegeError, match="cannot be read any more"):
        shard_table(output, 0)


@pytest.mark.parametrize("harm", ["cut", "gone", "garbage", "table"])
def test_broken_container_fails_with_its_name_and_the_remedy(
    root: Store, tmp_path: Path, harm: str
) -> None:
    fill(tmp_path / "in", "a.png")
    tar_of(tmp_path / "in" / "b.tar", {f"{n}.png": image(n) for n in range(5)})
    path = tmp_path / "in" / "b.tar"
    options = ShardOptions(source=str(tmp_path / "in"))
    snapshot = pin(root, options)
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:1500])
    elif harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" * 1000)
    if harm == "table":
        path.rename(tmp_path / "in" / "c.parquet")
        (tmp_path / "in" / "a.png").unlink()
        root = open_store(f"{root.uri}/2")
        snapshot = pin(root, options)
    with pytest.raises(Failures, match=r"(b\.tar|c\.parquet).*(Mend|Pack)"):
        shard(root, options, snapshot=snapshot)


def test_tables_of_plain_bytes_and_hugging_face_dicts(root: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images = [image(0), None, image(2)]
    pq.write_table(pa.table({"image": images, "label": [1, 1, 0]}), tmp_path / "in" / "a.parquet")
    wrapped = [None if data is None else {"bytes": data, "path": "p"} for data in images]
    pq.write_table(pa.table({"image": wrapped, "label": [1, 1, 0]}), tmp_path / "in" / "b.parquet")
    output = run(root, tmp_path / "in", labelled=True, max_reject_percent=50)
    assert (output.rows_in, output.kept, output.rejected) == (6, 4, 2)
    assert rejects(output) == {"a.parquet/000000001": "empty", "b.parquet/000000001": "empty"}
    first, second = shard_table(output, 0, ["label"]), shard_table(output, 1, ["label"])
    assert first["image"].to_pylist() == second["image"].to_pylist() == [image(0), image(2)]
    assert first["label"].to_pylist() == second["label"].to_pylist() == ["1", "0"]


def test_containers_without_images_are_told(root: Store, tmp_path: Path) -> None:
    tar_of(tmp_path / "in" / "a.tar", {"x.txt": b"-"})
    with pytest.raises(ProtegeError, match="hold no images"):
        run(root, tmp_path / "in")


def test_list_names_files_on_disk_and_on_s3__and_keeps_tags(
    root: Store, tmp_path: Path, s3: str
) -> None:
    fill(tmp_path / "in", "a b.png", "ü/c.png")
    open_store(f"{s3}/listed").replace("d.png", image(7))
    lines = ["uri,label,tags", "a b.png,cat,x y", f"{tmp_path}/in/ü/c.png,dog,"]
    lines += [f"{s3}/listed/d.png,cat,z", "missing.png,dog,"]
    (tmp_path / "in" / "l.csv").write_text("\n".join(lines))
    output = run(root, tmp_path / "in" / "l.csv", labelled=True, max_reject_percent=50)
    assert rejects(output) == {"missing.png": "unreadable"}
    found = {row["key"]: (row["label"], row["tags"]) for row in rows(output)}
    assert found["a b.png"] == ("cat", ["x", "y"])
    assert found[f"{s3}/listed/d.png"] == ("cat", ["z"])
    assert len(found) == 3


def test_source_and_root_on_s3_give_the_same_table_as_on_disk(tmp_path: Path, s3: str) -> None:
    folder = fill(tmp_path / "in", "cat/1.png", "cat/2 ü.png", "dog/x.jpg")
    (folder / "dog" / "bad.jpg").write_bytes(b"<html>")
    tar_of(folder / "dog" / "t.tar", {"dog/y.png": image(9)})
    for path in folder.rglob("*.*"):
        open_store(f"{s3}/same").replace(str(path.relative_to(folder)), path.read_bytes())
    options = {"labelled": True, "max_reject_percent": 50, "images_per_shard": 2}
    disk = run(open_store(str(tmp_path / "root")), folder, **options)
    bucket = run(open_store(f"{s3}/root"), f"{s3}/same", **options)
    assert (disk.rows_in, disk.kept, disk.rejected) == (5, 4, 1)
    assert rejects(disk) == rejects(bucket)
    same = [name for name in tables.IMAGES.names if name != "uri"]
    assert rows(disk, *same) == rows(bucket, *same)
    for number in range(3):
        assert shard_table(disk, number).equals(shard_table(bucket, number))
    assert run(open_store(f"{s3}/root"), f"{s3}/same", **options).reused


# ---------------------------------------------------------------------------------- class names


def test_class_names_are_sorted(root: Store, pictures: Path) -> None:
    labelled = run(root, pictures / "labelled", labelled=True)
    test = run(root, pictures / "test", labelled=True)
    assert class_names(labelled, test) == ["blue", "green", "red"]


@pytest.mark.parametrize(
    ("labelled", "test", "expected"),
    [
        (["cat/1.png", "dog/2.png", "3.png"], ["cat/4.png"], r"have no class \(3\.png\)"),
        (["cat/1.png"], ["cat/4.png"], "have 1 classes; at least 2"),
        (["cat/1.png", "dog/2.png"], ["cow/4.png"], "without a labelled image: cow"),
        (
            ["cat/1.png", "dog/2.png", "cow/bad"],
            ["cat/4.png"],
            "class 'cow' has no usable labelled",
        ),
        (["cat/1.png", "dog/2.png"], ["cat/1.png", "dog/bad"], "class 'dog' has no usable test"),
    ],
)
def test_unsound_classes_are_told(
    root: Store, tmp_path: Path, labelled: list[str], test: list[str], expected: str
) -> None:
    for role, names in (("labelled", labelled), ("test", test)):
        for path in fill(tmp_path / role, *names).rglob("bad"):
            path.write_bytes(b"-")
    with pytest.raises(ProtegeError, match=expected):
        class_names(
            *(
                run(root, tmp_path / role, labelled=True, max_reject_percent=100)
                for role in ("labelled", "test")
            )
        )


def test_manifest_says_what_was_asked_for_and_what_came_of_it(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in", "a.png", "b.png")
    output = run(root, tmp_path / "in")
    body = json.loads(output.store.read(output.manifest))
    assert (body["rows_in"], body["kept"], body["rejected"]) == (2, 2, 0)
    assert body["options"]["images_per_shard"] == 10_000
    assert body["extra"]["increments"] == ["pins/00000.parquet"]


def test_labels_that_were_corrected_are_told__not_ignored(root: Store, tmp_path: Path) -> None:
    fill(tmp_path / "in" / "cat", "1.png", "2.png")
    fill(tmp_path / "in" / "dog", "3.png")
    run(root, tmp_path / "in", labelled=True)
    (tmp_path / "in" / "cat" / "2.png").rename(tmp_path / "in" / "dog" / "2.png")
    with pytest.raises(ProtegeError, match=r"1 are gone .*cat/2\.png.* delete .*shard"):
        run(root, tmp_path / "in", labelled=True)


def test_file_that_is_another_now_is_told__and_a_touched_one_is_not(
    root: Store, tmp_path: Path
) -> None:
    fill(tmp_path / "in", "1.png", "2.png")
    run(root, tmp_path / "in")
    (tmp_path / "in" / "1.png").touch()
    assert run(root, tmp_path / "in").reused
    (tmp_path / "in" / "1.png").write_bytes(image(1) + b"more")
    with pytest.raises(ProtegeError, match=r"1 files have changed .*1\.png"):
        run(root, tmp_path / "in")


def test_who_makes_a_shard_reads_the_pins_of_few(root: Store) -> None:
    tars = [
        SourceFile(f"{number:05d}.tar", f"/nowhere/{number:05d}.tar", 10_240, "1")
        for number in range(3_500)
    ]
    snapshot = pin(root, ShardOptions(source="/nowhere"), Listing(tars))
    store = images_target(root, ShardOptions(source="/nowhere")).store
    with store.open_parquet(snapshot.increments[0]) as parquet:
        groups = parquet.groups_between("shard", 2_345, 2_345)
        assert len(parquet.read(groups=groups)) == GROUP_ROWS
    assert shard_pins(store, 2_345) == ([tars[2_345]], {})
