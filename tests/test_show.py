"""show, rejects and campaigns: what lies in a root, for people and programs; never a traceback."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard import ShardOptions, shard
from tests.builders.stories import png

ROOT = Path(__file__).parents[1]
ODD_FILES = {
    "cut.parquet": b"PAR1 and no more",
    "empty.parquet": b"",
    "cut.json": b'{"stage": ',
    "list.json": b"[1, 2]",
    "number.json": b"7",
    "foreign.json": b'{"stage": "shard", "fingerprint": 3}',
    "latin.json": b'{"name": "\xe9"}',
    "short.safetensors": b"abc",
    "long.safetensors": b"\xff" * 64,
    "zero.safetensors": b"\0" * 64,
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", ODD_FILES)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_damaged_or_foreign_file_gives_one_sentence(
    tmp_path: Path, name: str, as_json: list[str]
) -> None:
    (tmp_path / name).write_bytes(ODD_FILES[name])
    done = run("show", str(tmp_path / name), *as_json)
    if done.exit_code:
        assert isinstance(done.exception, ProtegeError), done.exception
        assert str(tmp_path / name) in str(done.exception)


def test_a_table_of_somebody_else_is_shown(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a[bold]": [1, 2]}), tmp_path / "x[red].parquet")
    text = run("show", str(tmp_path / "x[red].parquet")).output
    assert "x[red].parquet" in text
    assert "a[bold]" in text


COMMANDS: dict[str, list[str]] = {
    "champion": ["champion"],
    "resume": ["resume", "any"],
    "campaigns": ["campaigns"],
    "show": ["show", "any"],
    "run": ["run", "billion-scale", "--set", "pile.source=images"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_root_that_cannot_be_used_gives_one_sentence(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("no folder")
    done = run(*COMMANDS[command], "--root", str(tmp_path / "file" / "below"))
    assert done.exception is None or isinstance(done.exception, ProtegeError), done.exception


@pytest.mark.parametrize("command", ["resume", "campaigns", "show"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"id": "any"}', b"\xff"])
def test_a_damaged_campaign_is_named(tmp_path: Path, command: str, content: bytes) -> None:
    (tmp_path / "campaigns").mkdir()
    (tmp_path / "campaigns" / "any.json").write_bytes(content)
    done = run(*COMMANDS[command], "--root", str(tmp_path))
    assert isinstance(done.exception, ProtegeError), done.exception
    assert "campaigns/any.json is damaged" in str(done.exception)


def rejected(root: Store, folder: Path) -> str:
    """An output of shard with rejects of two endings and two reasons."""
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.xyz").write_bytes(b"OggS sound")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return shard(root, ShardOptions(source=str(folder), max_reject_percent=100)).uri


def test_rejects_are_counted_by_reason_and_by_ending(root: Store, tmp_path: Path) -> None:
    uri = rejected(root, tmp_path / "pile")
    text = run("rejects", uri).output
    assert "31 of 31 images cannot be used" in text
    assert "30 .xyz" in text
    assert "1 .png" in text
    assert text.index("broken.png: ") < text.index("00.xyz: ")
    assert re.search(r"and \d+ more: `protege rejects --all ", text)
    everything = run("rejects", uri, "--all").output
    assert everything.count(".xyz: ") == 30
    content = json.loads(run("rejects", uri, "--json").output)
    assert content["endings"] == {".xyz": 30, ".png": 1}
    assert len(content["rejects"]) == 31
    assert "30 .xyz" in run("show", uri).output
    assert json.loads(run("show", uri, "--json").output)["rejected"] == 31


def test_what_was_passed_over_is_shown_by_ending(root: Store, tmp_path: Path) -> None:
    folder = tmp_path / "pile"
    folder.mkdir()
    (folder / "picture.png").write_bytes(png(40))
    for number in range(3):
        (folder / f"{number}.ogg").write_bytes(b"OggS sound")
    uri = shard(root, ShardOptions(source=str(folder))).uri
    for command in ("show", "rejects"):
        assert (
            "3 files were passed over, for they are no images: 3 .ogg" in run(command, uri).output
        )
    assert json.loads(run("rejects", uri, "--json").output)["passed_over"] == {".ogg": 3}


def test_no_path_or_name_of_a_user_is_taken_for_markup() -> None:
    """rich takes `[bold]` in a path for markup, unless it is asked not to."""
    for path in sorted((ROOT / "flows").rglob("*.py")):
        for call in re.findall(r"(?<!\w)(?:Console|TextColumn)\(.*", path.read_text()):
            assert "markup=False" in call, f"{path}: {call}"
