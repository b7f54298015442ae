"""Process: which process this is, and whether one of the same machine has ended.

In: what /proc tells. Out: a `ProcessId`, which can be written down and read by others later. A pid
alone says little: it is given out again, and each machine and each container has its own.

    process = ProcessId.current()
    process.is_gone()    # False, also for a process of which nothing can be known from here
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessId:
    """A process; `machine` is empty where nothing tells one machine from another."""

    host: str
    machine: str
    pid: int
    start: str

    @staticmethod
    def current() -> "ProcessId":
        """The process that asks."""
        return ProcessId.of(os.getpid())

    @staticmethod
    def of(pid: int) -> "ProcessId":
        """The process that has this pid now, on this machine."""
        _, start = _state_and_start(pid)
        return ProcessId(socket.gethostname(), machine(), pid, start)

    def find(self) -> psutil.Process | None:
        """The process itself; None when it has ended, or cannot be seen from here."""
        if not self.machine or self.machine != machine() or self.is_gone():
            return None
        try:
            return psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return None

    def is_gone(self) -> bool:
        """Whether it has surely ended; of a process of another machine nobody here can know."""
        if not self.machine or self.machine != machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is there, and somebody else's
        state, start = _state_and_start(self.pid)
        # A zombie does nothing any more; it only waits for its parent to notice.
        return state in {"Z", "X"} or bool(start and self.start and start != self.start)


def machine() -> str:
    """This boot of this machine and, in a container, its own numbering of processes."""
    try:
        if Path("/proc/self").readlink() != Path(str(os.getpid())):
            return ""  # this /proc tells of other processes than our pids
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    """The state of a process and when it started, in ticks since boot; empty when hidden."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", ""
    # The name before the last bracket may hold spaces and brackets of its own.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
