"""Progress: bars in the terminal, and an artifact in the UI for each stage.

A thread keeps the artifacts up to date: a server that is slow or away must not hold up the work.

    with Progress() as progress:
        watch = progress.watch("score")
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

from flows.campaign.progress import Bars
from tasks.contract import OnProgress

UPDATE_SECONDS = 2.0  # an update costs up to 0.1 s of a busy core
LAST_UPDATE_SECONDS = 3.0


class Progress(Bars):
    """The bars of a run, and the thread that updates the artifacts."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._last: Future[None] | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        # A moment for the last lines; a call that is tried again and again may take a minute.
        if self._last is not None and error is None:
            wait([self._last], LAST_UPDATE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def watch(self, name: str) -> OnProgress:
        """What a stage calls; made in the task of the stage, which the artifact belongs to."""
        draw, artifact = super().watch(name), _Artifact(name, self)

        def update(done: int, total: int, note: str) -> None:
            draw(done, total, note)
            artifact.update(done, total, note)

        return update

    def submit(self, context: Context, call: Callable[[], None]) -> "Future[None]":
        """Call it in the thread, one after the other."""
        self._last = self._thread.submit(context.run, call)
        return self._last


class _Artifact:
    """One stage. Only the latest state is sent, none of those that it has replaced."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._id: UUID | None = None
        self._sending: Future[None] | None = None
        self._context = copy_context()
        self._started = self._sent_at = time.monotonic()
        self._first: int | None = None

    def update(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if not done or self._first is None:
            # Neither a wait for others nor what was there already says anything about the rate.
            self._started, self._first = now, done
        busy = self._sending is not None and not self._sending.done()
        finished = 0 < total == done
        if finished or (not busy and now - self._sent_at >= UPDATE_SECONDS):
            self._sent_at = now
            percent = 100 * done / total if total else 100.0
            text = self._describe(done, total, now) + note
            self._sending = self._progress.submit(
                self._context, functools.partial(self._send, percent, text)
            )

    def _describe(self, done: int, total: int, now: float) -> str:
        rate = (done - (self._first or 0)) / max(1e-9, now - self._started)
        pace = f", {rate:,.1f} a second, {(total - done) / rate:,.0f} s left" if rate else ""
        return f"{self._name}: {done:,} of {total:,}{pace}. "

    def _send(self, percent: float, text: str) -> None:
        try:
            if self._id is None:
                created = create_progress_artifact(percent, description=text)
                assert isinstance(created, UUID), "outside a coroutine, the call waits for it"
                self._id = created
            else:
                update_progress_artifact(self._id, percent, description=text)
        except Exception as error:
            logging.getLogger(__name__).warning("progress of %s: %s", self._name, error)
