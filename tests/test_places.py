"""Places that overlap are refused, however they are typed; slices of one source are not."""

from pathlib import Path

import pytest

from flows.campaign.places import check_places
from infra.errors import ProtegeError
from infra.store import open_store
from tasks.shard import ShardOptions


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/images/{train,val}, data/images.csv, and the link `other` to data/images."""
    for name in ("train", "val"):
        (tmp_path / "data" / "images" / name).mkdir(parents=True)
    (tmp_path / "data" / "images.csv").write_text("uri\n")
    (tmp_path / "other").symlink_to(tmp_path / "data" / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def check(root: str = "out", **sources: str | ShardOptions) -> None:
    options = {
        role: ShardOptions(source=source) if isinstance(source, str) else source
        for role, source in sources.items()
    }
    check_places(open_store(root), options)


SAME = [
    ("data/images", "data/images/val"),
    ("data/images/val", "data/images"),
    ("data/images", "data/images/"),
    ("data/images", "./data//images/."),
    ("data/images", "data/images/train/.."),
    ("data/images", "{folder}/data/images/train"),
    ("data/images", "file://{folder}/data/images"),
    ("data/images", "~/data/images/val"),
    ("other", "data/images/train"),
    ("other/train", "data/images/train"),
    ("data/images.csv", "./data/images.csv"),
    ("s3://b/images", "s3://b/images/val"),
    ("s3://b/images/", "S3://b/images"),
    ("s3://b", "s3://b/images"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_sources_that_overlap_are_refused(folders: Path, first: str, second: str) -> None:
    first, second = (text.format(folder=folders) for text in (first, second))
    with pytest.raises(ProtegeError, match=r"labelled.source and test.source must be different"):
        check(labelled=first, test=second)


APART = [
    ("data/images/train", "data/images/val"),
    ("data/images", "data/images-of-others"),
    ("s3://b/pre", "s3://b/pre2"),
    ("s3://b/images", "s3://c/images"),
    ("data/images", "data/images.csv"),
    ("data", "data/images.csv"),
]


@pytest.mark.parametrize(("first", "second"), APART)
def test_sources_that_lie_apart_are_taken(folders: Path, first: str, second: str) -> None:
    check(labelled=first, test=second)
    check(labelled=second, test=first)


def test_slices_of_one_source_may_not_overlap(folders: Path) -> None:
    first = ShardOptions(source="data/images", to_percent=90)
    check(labelled=first, test=ShardOptions(source="other", from_percent=90))
    with pytest.raises(ProtegeError, match="must be different places"):
        check(labelled=first, test=ShardOptions(source="data/images", from_percent=89))


@pytest.mark.parametrize("root", ["data/images/out", "data/images", "other/out", "."])
def test_root_inside_a_source_is_refused(folders: Path, root: str) -> None:
    source = "data/images" if root != "." else "."
    with pytest.raises(ProtegeError, match=r"lies in pile.source .*give another --root"):
        check(root, pile=source)


@pytest.mark.parametrize("source", ["data/shard/3f2a", "data/gather", "data/report/x"])
def test_outputs_are_no_source(folders: Path, source: str) -> None:
    with pytest.raises(ProtegeError, match="lies among the outputs in the root"):
        check("data", pile=source)
    check("data", pile="data/images")
    check("data", pile="data/images.csv")


def test_list_may_name_images_beside_the_root(folders: Path) -> None:
    check("data/out", pile="data/images.csv")
