"""Progress: how far a stage is, and which part of its work is the slow one."""

import time
from collections.abc import Callable, Mapping

COMPUTE = "compute"  # the work of a device, in a part's seconds

# done and total count shards (or steps); the note says which part of the work is the slow one.
OnProgress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """The progress callback of those who do not watch."""


class Stopwatch:
    """Seconds of the parts of the work: read, decode, compute, write."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def book(self, kind: str, seconds: float) -> None:
        """Book seconds that something else has measured."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def forget(self) -> None:
        """Let the next lap begin now."""
        self._since = time.perf_counter()

    def lap(self, kind: str) -> None:
        """Book the time since the last lap under `kind`."""
        now = time.perf_counter()
        self.book(kind, now - self._since)
        self._since = now


class Pace:
    """How fast a stage is: `1,240 images/s, device busy 93 %, decode 61 %`.

    The device is what networks compute on, `decode` the part of the work that takes longest.
    """

    def __init__(self, workers: int) -> None:
        self._workers, self._began = workers, time.monotonic()
        self._rows = 0
        self._seconds: dict[str, float] = {}

    def add(self, rows: int, seconds: Mapping[str, float]) -> None:
        """Count a part; one that was already there took no seconds."""
        if seconds:
            self._rows += rows
        for kind, value in seconds.items():
            self._seconds[kind] = self._seconds.get(kind, 0.0) + value

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._began
        if not self._rows or not elapsed:
            return ""
        said = [f"{self._rows / elapsed:,.0f} images/s", slowest(self._seconds)]
        if COMPUTE in self._seconds:
            share = min(1.0, self._seconds[COMPUTE] / (elapsed * self._workers))
            said.insert(1, f"device busy {share:.0%}")
        return ", ".join(filter(None, said))


def slowest(seconds: Mapping[str, float]) -> str:
    """`decode 61 %`: the part of the work that takes longest, or nothing yet."""
    total = sum(seconds.values())
    if not total:
        return ""
    kind = max(seconds, key=lambda name: seconds[name])
    return f"{kind} {seconds[kind] / total:.0%}"
