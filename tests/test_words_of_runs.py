"""What a failing run says in the terminal: one sentence once, with the option's full name."""

from pathlib import Path

import pytest
import yaml

from tests.builders.campaign import tiny
from tests.builders.processes import stop_at_line
from tests.test_cli import protege


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster: these runs end before one would have started."""
    monkeypatch.setenv("PROTEGE_EXECUTOR", "inline")


def config(folder: Path, pictures: Path, **changes: dict[str, object]) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny(pictures, **changes).model_dump(mode="json")))
    return str(path)


def test_a_failing_run_says_its_sentence_once(tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "name[bold]3"
    (folder / "bad").mkdir(parents=True)
    (folder / "bad" / "a.jpg").write_text("no picture")
    options = config(folder, pictures, pile={"source": str(folder / "bad")})
    done = protege("run", "billion-scale", "--config", options, "--root", str(folder / "out"))
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert text.count("cannot be used") == 1
    assert "NoneType" not in text
    assert "Failed(" not in text
    assert "raise pile.max_reject_percent (now 5)" in text
    assert "the same command goes on" not in text
    assert f"(outputs: {folder}/out)" in text
    assert f"`protege show {folder}/out/shard/" in text
    assert "shard pile: begins, 0 of 1" in text


def test_interrupt_says_that_the_same_command_goes_on(tmp_path: Path, pictures: Path) -> None:
    options = config(tmp_path, pictures)
    arguments = ("run", "billion-scale", "--config", options, "--root", str(tmp_path / "out"))
    status, text = stop_at_line("shard pile: begins", *arguments)
    assert status == 130
    assert "the same command goes on from there" in text.splitlines()[-1]
    assert "Crash detected" not in text
    assert "Traceback" not in text
