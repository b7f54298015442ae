"""Both stores keep the same promises: whole objects, created once, listed by name."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from infra.errors import ProtegeError
from infra.store import LocalStore, Store, open_store, split_uri
from infra.store.base import TEMPORARY_PREFIX

NAMES = ["a/b c.bin", "a/ünï/漢字.bin", "a/hash#mark?.bin", "top.bin", "a.bin/x", "[1]*.bin"]


def test_what_is_written_is_read_and_listed_under_its_name(store: Store) -> None:
    for at, name in enumerate(NAMES):
        assert store.create(name, b"x" * at)
    assert list(store.sizes()) == sorted(NAMES)
    assert [entry.size for entry in store.sizes().values()] == [
        NAMES.index(name) for name in sorted(NAMES)
    ]
    for at, name in enumerate(NAMES):
        assert store.exists(name)
        assert store.read(name) == b"x" * at


def test_listing_below_a_folder_has_full_names_and_not_its_namesakes(store: Store) -> None:
    for name in ("parts/1", "parts/deep/2", "parts2/3", "parts.txt"):
        store.replace(name, b"-")
    assert list(store.sizes("parts")) == ["parts/1", "parts/deep/2"]
    assert list(store.sizes("parts.txt")) == ["parts.txt"]
    assert store.sizes("nothing") == {}


@pytest.mark.parametrize(
    "path", ["..", "../x", "a/../../x", "a/../x", "a/..", "/etc/passwd", "link/../x", "//x"]
)
def test_path_that_leads_out_of_a_folder_on_disk_is_refused_by_every_method(
    tmp_path: Path, path: str
) -> None:
    store = open_store(str(tmp_path / "store"))
    store.create("a/x", b"inside")
    methods: list[Callable[[], object]] = [
        lambda: store.read(path),
        lambda: store.read_ranges(path, [(0, 1)]),
        lambda: store.open_parquet(path).__enter__(),
        lambda: store.create(path, b"out"),
        lambda: store.replace(path, b"out"),
        lambda: store.sizes(path),
        lambda: store.exists(path),
        lambda: store.delete(path),
    ]
    for method in methods:
        with pytest.raises(ProtegeError, match="leads out of"):
            method()
    assert list(store.sizes()) == ["a/x"]


def test_dots_within_a_name_are_no_way_out(store: Store) -> None:
    for name in ("..x", "a/...", "a..b/c.."):
        store.create(name, b"x")
    assert list(store.sizes()) == sorted(["..x", "a/...", "a..b/c.."])


def test_create_takes_a_name_once__and_replace_always(store: Store) -> None:
    assert store.create("x", b"first")
    assert not store.create("x", b"second")
    assert store.read("x") == b"first"
    before = store.sizes()["x"]
    store.replace("x", b"third")
    assert store.read("x") == b"third"
    assert store.sizes()["x"].version != before.version


def test_of_many_creators_exactly_one_wins__and_its_bytes_are_there(store: Store) -> None:
    won: list[int] = []
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        if store.create("part", b"%d" % number * 1000):
            won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("part") == b"%d" % won[0] * 1000
    assert list(store.sizes()) == ["part"]


def test_listing_goes_on_over_pages__and_ends_at_a_limit(store: Store) -> None:
    names = [f"deep/{number:04d}" for number in range(1_003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.replace(name, name.encode()), names))
    store.replace("deep-not", b"")
    assert list(store.sizes("deep")) == names
    assert list(store.sizes("deep/0007")) == ["deep/0007"]
    assert store.sizes("dee") == {}
    assert len(store.sizes(limit=5)) == 5


def test_missing_objects_raise_file_not_found__and_delete_does_not_mind(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.open_parquet("nothing").__enter__()
    with pytest.raises(FileNotFoundError):
        store.read_ranges("nothing", [(0, 1)])
    store.delete("nothing")
    store.create("x", b"")
    store.delete("x")
    assert not store.exists("x")


def test_ranges_are_exact__and_a_file_that_became_shorter_is_an_error(store: Store) -> None:
    store.create("x", bytes(range(100)))
    assert store.read_ranges("x", [(90, 10), (0, 3), (5, 0)]) == [
        bytes(range(90, 100)),
        b"\0\1\2",
        b"",
    ]
    with pytest.raises(OSError, match="x"):
        store.read_ranges("x", [(95, 10)])


def test_open_store_and_split_uri_agree_on_every_spelling(tmp_path: Path) -> None:
    (tmp_path / "b c.bin").write_bytes(b"1")
    for uri in (str(tmp_path / "b c.bin"), f"file://{tmp_path}/b%20c.bin"):
        parent, name = split_uri(uri)
        assert parent.uri == str(tmp_path)
        assert name.endswith("c.bin")
    assert split_uri("/data")[0].uri == "/"
    assert split_uri("file:///data")[0].uri == "/"
    assert split_uri("s3://bucket/a/b.tar")[0].uri == "s3://bucket/a"
    assert split_uri("plain")[0].uri == str(Path.cwd())
    assert open_store("s3://bucket/a/").uri == "s3://bucket/a"


@pytest.mark.parametrize("uri", ["http://x/y", "gs://bucket/x", "hdfs://x"])
def test_other_addresses_are_refused_with_what_can_be_opened(uri: str) -> None:
    with pytest.raises(ProtegeError, match="only local paths, file:// and s3://"):
        open_store(uri)


def test_bucket_that_is_not_there_lists_nothing(s3: str) -> None:
    assert open_store("s3://no-such-bucket/x").sizes() == {}


def test_links_to_folders_are_followed__but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    names = set(LocalStore(str(tmp_path)).sizes())
    assert {"real/x", "link/x", "dangling"} <= names
    assert "pipe" not in names
    assert len(names) < 8


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = LocalStore(str(tmp_path))
    monkeypatch.setattr(os, "fsync", no_space)
    for write in (store.create, store.replace):
        with pytest.raises(OSError, match="No space left"):
            write("part", b"x")
    assert list(tmp_path.iterdir()) == []


def test_killed_in_mid_write_shows_nothing(tmp_path: Path) -> None:
    """A process that dies before the link leaves a temporary file, which no listing shows."""
    code = (
        "import os, sys; from infra.store import LocalStore\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "LocalStore(sys.argv[1]).create('part', b'half')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    store = LocalStore(str(tmp_path))
    assert any(path.name.startswith(TEMPORARY_PREFIX) for path in tmp_path.iterdir())
    assert store.sizes() == {}
    assert store.create("part", b"whole")
    assert store.read("part") == b"whole"


def test_exception_in_mid_upload_shows_nothing(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.store import s3 as storage

    store = open_store(f"{s3}/mid-upload")
    client = storage._s3()

    async def fail(*_: object, **__: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(client, "_call_s3", fail)
        with pytest.raises(OSError, match="connection lost"):
            store.replace("part", b"x" * 1000)
    assert store.sizes() == {}


def test_create_that_is_refused_without_a_name_for_it__asks_whether_the_object_is_there(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MinIO and a 409 of AWS come out of s3fs as a plain OSError."""
    from infra.store import s3 as storage

    store = open_store(f"{s3}/refused")
    store.replace("part", b"theirs")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(storage._s3(), "pipe_file", refuse)
    assert not store.create("part", b"mine")
    with pytest.raises(OSError, match="pre-conditions"):
        store.create("other", b"mine")


@pytest.mark.parametrize(
    "error",
    [NoCredentialsError(), EndpointConnectionError(endpoint_url="x"), PermissionError("no")],
)
def test_s3_that_cannot_be_used_is_one_line(
    s3: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from infra.store import s3 as storage

    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(storage._s3(), "_call_s3", refuse)
    for use in (
        lambda: open_store(f"{s3}/x").read("y"),
        lambda: open_store(f"{s3}/x").create("y", b""),
    ):
        with pytest.raises(ProtegeError, match="Check the AWS environment"):
            use()


def test_disk_without_hard_links_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ProtegeError, match="cannot make hard links"):
        LocalStore(str(tmp_path)).create("part", b"x")
    assert list(tmp_path.iterdir()) == []
