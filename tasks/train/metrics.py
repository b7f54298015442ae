"""Metrics: the course of a training while it runs: speed, losses, memory.

In: the steps, and each row of the history. Out: `metrics.jsonl` in the folder of the output, a line
for each row, which people can follow; the same for other programs (tasks/train/writers/); and what
the lines of progress say. Files are written in the background: no step waits for them.

    {"step": 40, "images": 10240, "loss": 0.71, "learning_rate": 0.1, "images_per_second": 830.2,
     "waiting_share": 0.02, "gpu_bytes": 0, "accuracy": 0.81, "seconds": 12.4, "attempt": 1}

`seconds` are those of this attempt so far, `waiting_share` is the share of the time in which the
network waits for images, and `gpu_bytes` is the most memory that was allocated; 0 without a GPU.

This module loads no torch until a training measures itself.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from infra.background import Background
from infra.store import Store
from tasks.train.job import METRICS

LAST_SECONDS = 5.0  # that the end of a training waits for its last lines
GIB = 1 << 30


class MetricsWriter(Protocol):
    """Another program's format."""

    def write(self, row: Mapping[str, float]) -> None:
        """Write a row; `step` is one of its values."""

    def close(self) -> None:
        """Write what is left; nothing comes after it."""


@dataclass(frozen=True)
class Speed:
    """How fast a training was in a span of time."""

    images_per_second: float
    waiting_share: float
    gpu_bytes: int


class SpeedMeter:
    """The speed between two readings; `clock` gives seconds."""

    def __init__(self, clock: Any = time.perf_counter) -> None:
        self._clock = clock
        self._since, self._images, self._waited = clock(), 0, 0.0

    def read(self, images: int, waited_seconds: float) -> Speed:
        """The speed since the last reading, from the images and the seconds of waiting so far."""
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        speed = Speed(
            (images - self._images) / seconds,
            min(1.0, (waited_seconds - self._waited) / seconds),
            _gpu_bytes(),
        )
        self._since, self._images, self._waited = now, images, waited_seconds
        return speed


def _gpu_bytes() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0


class MetricsLog:
    """The file of one attempt, from the step where it begins, and the writers beside it."""

    def __init__(self, store: Store, attempt: int, step: int) -> None:
        self.writers: Sequence[MetricsWriter] = ()
        self._store, self._attempt = store, attempt
        self._started = time.perf_counter()
        self._lines: list[str] = []
        self._rows: list[dict[str, float]] = []
        self._resumed_step = step
        self._cuts = True
        self._writing = Background(f"{METRICS} was not written to {store.uri}")

    def add(self, row: Mapping[str, Any], speed: Speed) -> None:
        """Write a row of the history, with the speed since the row before."""
        values: dict[str, float] = {
            **{name: value for name, value in row.items() if name != "measurements"},
            **asdict(speed),
            **row["measurements"],
            "seconds": round(time.perf_counter() - self._started, 3),
        }
        self._rows.append(values)
        self._lines.append(json.dumps({**values, "attempt": self._attempt}) + "\n")
        # What is added while the store is slow is written with the next row.
        if not self._writing.is_busy:
            self._writing.start(self._write)

    def finish(self) -> None:
        """Write what is left; a store that does not answer is not waited for."""
        self._writing.wait(LAST_SECONDS)
        if not self._writing.is_busy:
            self._writing.start(self._write_last)
            self._writing.wait(LAST_SECONDS)

    def _write(self) -> None:
        if self._cuts:
            self._cut()
            self._cuts = False
        count = len(self._lines)
        if count:
            self._store.append(METRICS, "".join(self._lines[:count]).encode())
            del self._lines[:count]
        while self._rows:
            row = self._rows.pop(0)
            for writer in self.writers:
                writer.write(row)

    def _write_last(self) -> None:
        if self._lines:
            self._write()
        for writer in self.writers:
            writer.close()

    def _cut(self) -> None:
        """Remove the lines of steps that will be made again, and a line that is half written."""
        if not self._store.exists(METRICS):
            return
        before = self._store.read(METRICS)
        kept = b"".join(line for line in before.splitlines(keepends=True) if self._stays(line))
        if kept != before:
            self._store.replace(METRICS, kept)

    def _stays(self, line: bytes) -> bool:
        try:
            return line.endswith(b"\n") and int(json.loads(line)["step"]) <= self._resumed_step
        except (ValueError, KeyError, TypeError):
            return False


def describe_metrics(line: Mapping[str, Any]) -> str:
    """`loss 0.713, rate 0.1, 830 images/s, waiting 2 %, GPU 3.0 GiB`: a line of progress."""
    words = [] if line["loss"] is None else [f"loss {line['loss']:.3f}"]
    if line.get("images_per_second"):
        words += [
            f"rate {line['learning_rate']:.3g}",
            f"{line['images_per_second']:,.0f} images/s",
            f"waiting {100 * line['waiting_share']:.0f} %",
        ]
    if line.get("gpu_bytes"):
        words.append(f"GPU {line['gpu_bytes'] / GIB:.1f} GiB")
    return ", ".join(words)
