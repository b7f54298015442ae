"""Progress: what a stage tells of itself, as a bar in the terminal and an artifact in the UI.

In: calls of `on_progress(done, total, note)`. Out: a bar that is drawn at once, and an artifact,
which a thread keeps up to date: a server that is slow or away must not hold up the work.

    with Progress() as progress:
        watch = progress.of("score")
        watch(17, 120, "decode 61 %")
"""

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context, copy_context
from types import TracebackType
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tasks.contract import OnProgress

ARTIFACT_SECONDS = 2.0  # an update costs up to 0.1 s of a busy core
LAST_SECONDS = 3.0


class Progress:
    """The bars of a run, and the thread that tells the server."""

    def __init__(self) -> None:
        self.bars = Bars(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._last: Future[None] | None = None

    def __enter__(self) -> "Progress":
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()
        # A moment for the last lines; a call that is tried again and again may take a minute.
        if self._last is not None and error is None:
            wait([self._last], LAST_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def of(self, name: str) -> OnProgress:
        """What a stage calls; made in the task of the stage, which the artifact belongs to."""
        return _Watcher(name, self)

    def tell(self, context: Context, tell: Callable[[], None]) -> "Future[None]":
        """Call it in the thread, one after the other."""
        self._last = self._thread.submit(context.run, tell)
        return self._last


class _Watcher:
    """One stage. The latest state alone is told; those that come in the meantime are left out."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._bars, self._progress = name, progress.bars, progress
        self._bar: TaskID | None = None
        self._artifact: UUID | None = None
        self._telling: Future[None] | None = None
        self._context = copy_context()
        self._started = self._told_at = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if self._bar is None:
            self._bar = self._bars.add_task(self._name, total=total or 1, note=note)
        self._bars.update(self._bar, completed=done if total else 1, total=total or 1, note=note)
        now = time.monotonic()
        if not done or self._first is None:
            # Neither a wait for others nor what was there already says anything about the rate.
            self._started, self._first = now, done
        busy = self._telling is not None and not self._telling.done()
        finished = 0 < total == done
        if finished or (not busy and now - self._told_at >= ARTIFACT_SECONDS):
            self._told_at = now
            percent = 100 * done / total if total else 100.0
            text = self._text(done, total, now) + note
            tell = functools.partial(self._tell, percent, text)
            self._telling = self._progress.tell(self._context, tell)

    def _text(self, done: int, total: int, now: float) -> str:
        rate = (done - (self._first or 0)) / max(1e-9, now - self._started)
        pace = f", {rate:,.1f} a second, {(total - done) / rate:,.0f} s left" if rate else ""
        return f"{self._name}: {done:,} of {total:,}{pace}. "

    def _tell(self, percent: float, text: str) -> None:
        try:
            if self._artifact is None:
                created = create_progress_artifact(percent, description=text)
                assert isinstance(created, UUID), "outside a coroutine, the call waits for it"
                self._artifact = created
            else:
                update_progress_artifact(self._artifact, percent, description=text)
        except Exception as error:
            logging.getLogger(__name__).warning("progress of %s: %s", self._name, error)
