"""Allowed sources: an administrator confines what a run may read."""

from pathlib import Path

import pytest

from infra.errors import ProtegeError
from tasks.shard.sources import list_source
from tests.builders.pictures import write_sources


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources, of which only the pile may be read."""
    write_sources(tmp_path, seed=1, labelled=1, pile=1, test=1)
    monkeypatch.setenv("PROTEGE_SOURCES", f"s3://bucket/images, {tmp_path / 'pile'}/")
    return tmp_path


def listed(place: Path, line: str) -> str:
    """A list within the allowed folder that names a file."""
    (place / "pile" / "list.txt").write_text(f"{line}\n")
    return str(place / "pile" / "list.txt")


def test_what_is_allowed_is_read(place: Path) -> None:
    assert len(list_source(str(place / "pile"), labelled=False)) == 3
    image = next((place / "pile").glob("*.png"))
    for line in (image.name, str(image), image.as_uri(), "s3://bucket/images/1.png"):
        assert list_source(listed(place, line), labelled=False)


@pytest.mark.parametrize(
    "source", ["{}/test", "{}/piles", "{}", "{}/pile/../test", "s3://bucket/imagesx", "/etc"]
)
def test_source_elsewhere_is_refused_by_name(place: Path, source: str) -> None:
    with pytest.raises(ProtegeError, match="PROTEGE_SOURCES allows s3://bucket/images, /"):
        list_source(source.format(place), labelled=False)


@pytest.mark.parametrize(
    "line",
    ["/etc/passwd", "../test/x.png", "file:///etc/passwd", "s3://other/1.png", "way-out/x.png"],
)
def test_list_cannot_name_a_file_elsewhere(place: Path, line: str) -> None:
    (place / "pile" / "way-out").symlink_to(place / "test")
    with pytest.raises(ProtegeError, match="may not be read"):
        list_source(listed(place, line), labelled=False)


def test_link_in_a_folder_cannot_name_a_file_elsewhere(place: Path) -> None:
    (place / "pile" / "way-out").symlink_to(place / "test")
    with pytest.raises(ProtegeError, match="may not be read"):
        list_source(str(place / "pile"), labelled=False)


def test_without_the_setting_everything_is_allowed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROTEGE_SOURCES")
    assert list_source(str(place / "test"), labelled=False)
    assert list_source(listed(place, "/etc/passwd.png"), labelled=False)
