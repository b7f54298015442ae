"""An address that was listed, written down and read again is the object that was listed."""

import uuid
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Address, S3Store, open_object, open_store, split_uri
from tasks.shard import recheck_rejects
from tests.builders.containers import tar_bytes
from tests.builders.shards import shard_table
from tests.builders.sources import CALM, image, run

STEPS = st.text("ab%#?+ &~*[]\\:.é漢\U0001f600'\"", min_size=1, max_size=5)
NAMES = st.lists(STEPS, min_size=1, max_size=3).map("/".join)
KEYS = st.lists(STEPS | st.just(""), min_size=1, max_size=4).map("/".join)


def usable_on_disk(name: str) -> bool:
    return not {".", ".."} & set(name.split("/"))


@CALM
@given(st.sets(NAMES.filter(usable_on_disk), min_size=1, max_size=6))
@example({"a%20b/x#1?.png", "~a", "a:", "x."})
def test_what_a_disk_lists_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("disk") / "100% a#b?c"))
    for name in names:
        try:
            store.create(name, name.encode())
        except OSError:  # one name is the folder of another
            continue
    listed = list(store.sizes())
    assert listed
    for name in listed:
        for text in (f"{store.uri}/{name}", Path(f"{store.uri}/{name}").as_uri()):
            address = Address.parse(text)
            assert Address.parse(address.uri) == address
            parent, last = open_object(address)
            assert parent.read(last) == name.encode()


@CALM
@given(st.sets(KEYS.filter(lambda key: not key.endswith("/") and key), min_size=1, max_size=6))
@example({"cat//1.png", "cat/1.png", "/1.png", "..", "a/../b", "x./y.", "%2F", "+ #?&"})
def test_what_s3_lists_is_read_back(s3: str, keys: set[str]) -> None:
    prefix, bucket = uuid.uuid4().hex, s3.removeprefix("s3://")
    client = boto3.client("s3")
    for key in keys:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=key.encode())
    store = open_store(f"S3://{bucket}/{prefix}/")
    assert set(store.sizes()) == keys
    for key in keys:
        address = Address.parse(f"{store.uri}/{key}")
        assert Address.parse(address.uri) == address
        parent, name = open_object(address)
        assert parent.read(name) == key.encode()
        assert parent.read_ranges(name, [(0, 1)]) == [key.encode()[:1]]
        assert parent.exists(name)


@given(st.text("ab/.%#? :~é", max_size=12))
def test_parsing_is_done_once(text: str) -> None:
    for start in ("", "/", "s3://b/", "file:///", "S3://b/", "FILE://localhost/"):
        address = Address.parse(start + text)
        assert Address.parse(address.uri) == address
        folder, name = address.split()
        assert f"{'' if folder == '/' else folder}/{name}" == address.uri


def test_every_spelling_means_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "b c#.bin").write_bytes(b"1")
    for text in (
        str(tmp_path / "b c#.bin"),
        f"file://{tmp_path}/b%20c%23.bin",
        f"file://{tmp_path}/b c#.bin",
        f"FILE://localhost{tmp_path}/b%20c#.bin",
    ):
        parent, name = split_uri(text)
        assert (parent.uri, name, parent.read(name)) == (str(tmp_path), "b c#.bin", b"1")
    assert open_store("S3://bucket/A/").uri == "s3://bucket/A"


def test_key_that_the_client_would_take_for_another_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        S3Store("s3://b").read("x?versionId=1")


def test_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ProtegeError, match="only local paths, file:// and s3://"):
        Address.parse("s3a://bucket/x")


ODD = ["cat/1.png", "cat/100% #?&+ é.png", "dog/x./y..png", "dog/a%20b.png", "~/[1]*.png"]


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_every_stage_reads_the_object_that_was_listed(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    base = str(tmp_path) if kind == "disk" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    names = [*ODD, "cat//1.png"] if kind == "s3" else ODD
    root, store = open_store(f"{base}/root"), open_store(f"{base}/in % #?a")
    contents = {name: image(number) for number, name in enumerate(names)}
    for name, data in contents.items():
        store.replace(name, data)
    packed = {f"m{number} #%2F.png": data for number, data in enumerate(contents.values())}
    store.replace("t a%#?.tar", tar_bytes(packed))
    output = run(root, store.uri)
    table = pa.concat_tables([shard_table(output, number, ["key"]) for number in range(3)])
    assert output.kept == len(table)
    found = dict(zip(table["key"].to_pylist(), table["image"].to_pylist()))
    assert found == contents | {f"t a%#?.tar/{name}": data for name, data in packed.items()}
    # The same through a list, and after one of them was broken and mended.
    listed = open_store(f"{base}/lists")
    listed.replace("l.txt", "\n".join(f"{store.uri}/{name}" for name in names).encode())
    store.delete(names[-1])
    before = run(root, f"{listed.uri}/l.txt", max_reject_percent=100)
    assert before.rejected == 1
    store.replace(names[-1], contents[names[-1]])
    assert recheck_rejects(root, before).usable == 1
    after = run(root, f"{listed.uri}/l.txt")
    images = [image for at in range(2) for image in shard_table(after, at)["image"].to_pylist()]
    assert sorted(images) == sorted(contents.values())
