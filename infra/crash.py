"""Crash: what to say of launched processes that died without a sentence of their own.

In: how the process ended, its log, and the most memory that it had. Out: a `Crashed`, whose last
line is the last line of the process that failed first.
"""

import re
import signal
from dataclasses import dataclass

import psutil

from infra.devices import memory_limit

TAIL_LINES = 15
LOOK_SECONDS = 1.0  # a look at the memory of several processes takes some milliseconds
SIGNAL_OF_CHILD = re.compile(r"failed \(exitcode: -(\d+)\)")
# Lines that torchrun writes around those of its children: `E1128 12:19:33.100000 77 torch/...`.
TORCHRUN = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ +\S*torch/distributed/|\s*\*{4,}$")
OUT_OF_MEMORY = re.compile(
    r"torch\.(cuda\.)?OutOfMemoryError|MemoryError|RuntimeError: .*DefaultCPUAllocator"
)
LOWER = "Lower options.batch_size or options.inputs.size, or take a smaller options.model"


class Crashed(Exception):
    """The launched processes ended with an error, and without a message for the user.

    `out_of_memory` is whether they said so themselves: the same work would end in the same way.
    `likely_memory` is also true of processes that were killed by somebody.
    """

    def __init__(
        self, message: str, *, out_of_memory: bool = False, likely_memory: bool = False
    ) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory
        self.likely_memory = out_of_memory or likely_memory


class PeakMemory:
    """The most memory that a process and its children have had, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looked_at = 0.0
        self.bytes = 0

    def look(self, now: float) -> None:
        """Look, unless that was done a moment ago."""
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            process = psutil.Process(self._pid)
            family = [process, *process.children(recursive=True)]
            self.bytes = max(self.bytes, sum(child.memory_info().rss for child in family))
        except psutil.NoSuchProcess:
            return  # it has just ended


@dataclass(frozen=True)
class Death:
    """How launched processes ended."""

    what: str
    status: int
    log: str
    peak_bytes: int

    def error(self) -> Crashed:
        """The error to raise."""
        number = self._signal()
        if number == signal.SIGKILL:
            had, limit = self.peak_bytes / (1 << 30), memory_limit() / (1 << 30)
            return Crashed(
                f"{self.what} was killed (SIGKILL), most likely for memory: it had {had:.1f} GiB "
                f"when it was last looked at, and this machine has {limit:.1f} GiB. "
                f"{LOWER}",
                likely_memory=True,
            )
        if number:
            how = f"was ended by {signal.Signals(number).name}"
        else:
            how = f"ended with status {self.status}"
        lines = own_lines(self.log)[-TAIL_LINES:]
        if lines and OUT_OF_MEMORY.match(lines[-1]):
            message = f"{self.what} has not the memory that it needs. {LOWER}: {lines[-1]}"
            return Crashed(message, out_of_memory=True)
        tail = "\n".join(lines)
        end = f". Its log ends:\n{tail}" if tail else ", and wrote nothing"
        return Crashed(f"{self.what} {how}{end}")

    def _signal(self) -> int:
        """The signal that ended the process, or one of those below torchrun; 0 without."""
        found = SIGNAL_OF_CHILD.search(self.log)
        return int(found[1]) if found else max(0, -self.status)


def own_lines(log: str) -> list[str]:
    """The lines of the launched module itself, without those of torchrun around them."""
    lines = []
    for line in log.splitlines():
        if "] failed (exitcode: " in line:
            break  # after it comes torchrun's own traceback
        if line.strip() and not TORCHRUN.match(line):
            lines.append(line)
    return lines
