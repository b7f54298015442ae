"""Process: which process this is, whether one of the same machine has ended, and how to stop it.

In: what /proc says. Out: a `ProcessId`, which can be written down and read by others later. A pid
alone is not enough: pids are used again, and each machine and each container has its own.

    process = ProcessId.current()
    process.is_gone()    # False, also for a process of which nothing can be known from here
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ENDED_STATES = {"Z", "X"}  # a zombie has ended; it only waits for its parent to read its status


@dataclass(frozen=True)
class ProcessId:
    """A process; `machine` is empty where nothing tells one machine from another."""

    host: str
    machine: str
    pid: int
    start: str

    @staticmethod
    def current() -> "ProcessId":
        """The process that calls."""
        return ProcessId.of(os.getpid())

    @staticmethod
    def of(pid: int) -> "ProcessId":
        """The process that has this pid now, on this machine."""
        _, start = _state_and_start(pid)
        return ProcessId(socket.gethostname(), machine(), pid, start)

    def find(self) -> psutil.Process | None:
        """The running process; None when it has ended, or runs on another machine."""
        with suppress(psutil.NoSuchProcess):
            if self.machine == machine() and is_running(self.pid, self.start):
                return psutil.Process(self.pid)
        return None

    def is_gone(self) -> bool:
        """Whether it has surely ended; False for a process of another machine."""
        known = bool(self.machine) and self.machine == machine()
        return known and not is_running(self.pid, self.start)


def machine() -> str:
    """This boot of this machine and, in a container, its own numbering of processes."""
    try:
        if Path("/proc/self").readlink() != Path(str(os.getpid())):
            return ""  # this /proc belongs to another numbering of processes
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_running(pid: int, start: str = "") -> bool:
    """Whether a process with this pid, and this start where it is known, runs on this machine."""
    if not psutil.pid_exists(pid):
        return False
    state, found_start = _state_and_start(pid)
    is_another = bool(found_start and start and found_start != start)
    return state not in ENDED_STATES and not is_another


def stop_processes(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    """SIGTERM to all, and SIGKILL to those that still run after the time of grace."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, running = psutil.wait_procs(processes, grace_seconds)
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(running, grace_seconds)


def _state_and_start(pid: int) -> tuple[str, str]:
    """The state of a process and when it started, in ticks since boot; empty when hidden.

    psutil says the start as a time of day, which moves when the clock is set.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", ""
    # The name before the last bracket may hold spaces and brackets of its own.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
