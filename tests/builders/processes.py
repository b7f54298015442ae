"""Processes: which are still there, found by what their environment says, and how to kill them."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from infra.launch import LAUNCHER_VARIABLE
from tests.builders.waiting import EVENT_SECONDS


def launched_by(pid: int) -> set[int]:
    """The training processes that this process has launched, alive or orphaned."""
    return with_variable(LAUNCHER_VARIABLE, str(pid))


def with_variable(name: str, value: str) -> set[int]:
    """The processes that were started with this environment variable."""
    mark = f"{name}={value}\0".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if mark in environment + b"\0":
                found.add(int(folder.name))
    return found


def kill_at(step: int, pid: int) -> Callable[..., None]:
    """An `on_progress` that kills a process at its call with this number, counted from 1."""
    calls = itertools.count(1)

    def on_progress(*progress: object) -> None:
        if next(calls) == step:
            os.kill(pid, signal.SIGKILL)

    return on_progress


def stop_at_line(beginning: str, *arguments: str) -> tuple[int, str]:
    """Run protege and press Ctrl-C at the first line that begins so; its status and its text."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith(beginning):
                process.send_signal(signal.SIGINT)
        return process.wait(EVENT_SECONDS), "".join(lines)
