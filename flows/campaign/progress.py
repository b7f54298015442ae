"""Progress: how far each stage is: bars in a terminal, lines in a file or a log.

In: calls of `on_progress(done, total, note)`. Out: bars that are drawn at once; or, where nothing
can be drawn, a line when a stage begins and ends, and one now and then.

    with Bars() as bars:
        run = Run(store, executor, watch=bars.watch)
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flows.terminal import is_quiet, note
from tasks.contract import OnProgress, silent

LINE_SECONDS = 60.0
RESULTS = "flows.campaign"  # where a run logs each output


class Bars:
    """The progress of a run, stage by stage."""

    def __init__(self) -> None:
        console = Console(stderr=True, markup=False)
        self._opened = ExitStack()
        self._draws = (console.is_terminal or console.is_jupyter) and not is_quiet()
        self._bars = Progress(
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )

    def __enter__(self) -> "Bars":
        if self._draws:
            self._bars.start()
        else:
            self._opened.enter_context(print_results())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Bars that were never drawn would end with an empty line.
        if self._draws:
            self._bars.stop()
        self._opened.close()

    def watch(self, name: str) -> OnProgress:
        """What a stage calls."""
        if is_quiet():
            return silent
        return self._bar(name) if self._draws else Lines(name).update

    def _bar(self, name: str) -> OnProgress:
        bar: TaskID | None = None

        def update(done: int, total: int, text: str) -> None:
            nonlocal bar
            if bar is None:
                bar = self._bars.add_task(name, total=total or 1, note=text)
            shown = done if total else 1
            self._bars.update(bar, completed=shown, total=total or 1, note=text)

        return update


class Lines:
    """The progress of one stage as lines; its result is another line, of `print_results`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._printed_at: float | None = None

    def update(self, done: int, total: int, text: str) -> None:
        """Print the first state of the stage, and one now and then."""
        now, first = time.monotonic(), self._printed_at is None
        if not first and now - (self._printed_at or 0.0) < LINE_SECONDS:
            return
        self._printed_at = now
        count = f" {done:,} of {total:,}" if total else ""
        note(f"{self._name}: {'begins,' if first else 'at'}{count}{f' ({text})' if text else ''}")


@contextmanager
def print_results() -> Iterator[None]:
    """Print a line for each output that a run has made or found."""
    logger, handler = logging.getLogger(RESULTS), _Notes()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Notes(logging.Handler):
    """Prints what is logged at INFO; warnings are shown by the engine."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            note(record.getMessage())
