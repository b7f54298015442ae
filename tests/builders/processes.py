"""Processes: which are still there, and waiting for something to happen."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.launch import LAUNCHER_VARIABLE


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


def wait_until(
    happened: Callable[[], Any], seconds: float, what: str = "it happens", every: float = 0.3
) -> Any:
    """What it returns once that is true; fails with `what` when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = happened()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)
