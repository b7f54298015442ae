"""Log files: they stay small while a process writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.operate import log_files
from flows.operate.log_files import cap_logs
from tests.builders.waiting import wait_for

WRITE_LINES = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_log_of_a_process_that_goes_on_is_cut__and_its_last_part_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "MAX_LOG_BYTES", 1_000)
    log = tmp_path / "server.log"
    with log.open("ab") as out:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_LINES], stdin=subprocess.PIPE, stdout=out, text=True
        )
    assert writer.stdin is not None
    for number in range(150):
        writer.stdin.write(f"{number:09d}\n")
    writer.stdin.flush()
    wait_for(lambda: log.stat().st_size == 1_500, "all lines are written")
    cap_logs(tmp_path)
    assert log.stat().st_size == 0
    writer.communicate("000000299\n")
    assert log.stat().st_size == 10
    kept = (tmp_path / "server.log.1").read_bytes() + log.read_bytes()
    assert kept.endswith(b"000000299\n")
    assert b"\0" not in kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", "server.log.1"]
