"""Progress: how far a stage is, and which part of its work is the slow one."""

import time
from collections.abc import Callable, Mapping

# done and total count shards (or steps); the note says which part of the work is the slow one.
OnProgress = Callable[[int, int, str], None]


def silent(done: int, total: int, note: str) -> None:
    """The progress callback of those who do not watch."""


class Stopwatch:
    """Seconds of the parts of the work: read, decode, compute, write."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, kind: str) -> None:
        """Book the time since the last lap under `kind`."""
        now = time.perf_counter()
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self._since
        self._since = now


def slowest(seconds: Mapping[str, float]) -> str:
    """`decode 61 %`: the part of the work that takes longest, or nothing yet."""
    total = sum(seconds.values())
    if not total:
        return ""
    kind = max(seconds, key=lambda name: seconds[name])
    return f"{kind} {seconds[kind] / total:.0%}"
