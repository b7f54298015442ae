"""Logs: the warnings of another process, as few lines that say where they came from.

In: the warnings and errors of a process, from Python's logging and its `warnings`. Out: `Line`s. At
each level, a limited number of different lines is sent in a minute; the others are counted.

    throttle = Throttle(send)
    with PLACE.at("shard 17"), forward_warnings(throttle.take):
        work()
    throttle.flush()
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from infra.errors import describe_error

LINES_PER_WINDOW = 20  # different lines of a level
WINDOW_SECONDS = 60.0
MAX_CHARACTERS = 500
SUPPRESSED = "other messages were suppressed"


@dataclass(frozen=True)
class Line:
    """A message; or, with `repeats`, how often it came again."""

    level: int
    place: str
    text: str
    repeats: int = 0

    def __str__(self) -> str:
        if self.text == SUPPRESSED:
            text = f"{self.repeats:,} {SUPPRESSED}"
        else:
            text = f"{self.text} [{self.repeats:,} more]" if self.repeats else self.text
        return f"{self.place}: {text}" if self.place else text


class Scope:
    """What the work of this thread belongs to: a shard, a rank, a run."""

    def __init__(self, name: str) -> None:
        self._here: ContextVar[str] = ContextVar(name, default="")
        self._active: list[str] = []

    @contextmanager
    def at(self, value: str) -> Iterator[None]:
        """The work belongs to this until the end of the block."""
        token = self._here.set(value)
        self._active.append(value)
        try:
            yield
        finally:
            self._active.remove(value)
            self._here.reset(token)

    def value(self) -> str:
        """What this thread's work belongs to; empty when that is not known."""
        # Pool threads inherit no context; if one scope alone is active, the line came from it.
        active = set(self._active)
        return self._here.get() or (active.pop() if len(active) == 1 else "")


PLACE = Scope("place")


class Throttle:
    """Sends the first lines of a window at once, and the others as counts when it is over."""

    def __init__(self, send: Callable[[Line], None], limit: int = LINES_PER_WINDOW) -> None:
        self._send = send
        self._limit = limit
        self._lock = threading.RLock()
        self._opened = time.monotonic()
        self._sent: Counter[int] = Counter()
        self._lines: dict[tuple[int, str], Line] = {}

    def take(self, line: Line) -> None:
        """Send the line now, or count it."""
        with self._lock:
            if time.monotonic() - self._opened >= WINDOW_SECONDS:
                self.flush()
            known = (line.level, line.text) in self._lines
            if not known and self._sent[line.level] >= self._limit:
                line = Line(line.level, "", SUPPRESSED, line.repeats or 1)
            key = (line.level, line.text)
            if key in self._lines:
                self._lines[key] = _add_repeats(self._lines[key], line)
            elif line.text == SUPPRESSED:
                self._lines[key] = line
            else:
                self._lines[key] = replace(line, repeats=0)
                self._sent[line.level] += 1
                self._send(line)

    def flush(self) -> None:
        """Send the counts, and begin a new window."""
        with self._lock:
            counted = [line for line in self._lines.values() if line.repeats]
            self._lines.clear()
            self._sent.clear()
            self._opened = time.monotonic()
            for line in counted:
                self._send(line)


def _add_repeats(line: Line, again: Line) -> Line:
    place = line.place if again.place == line.place else ""
    return replace(line, place=place, repeats=line.repeats + (again.repeats or 1))


class _Forwarder(logging.Handler):
    """Makes a line of each record and sends it."""

    def __init__(self, send: Callable[[Line], None]) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not _is_noise(record):
                self._send(Line(record.levelno, PLACE.value(), _one_line(record)))
        except Exception:
            self.handleError(record)


_forwarders: list[_Forwarder] = []
_lock = threading.Lock()


@contextmanager
def forward_warnings(send: Callable[[Line], None]) -> Iterator[None]:
    """Send the warnings and errors of this process, in the thread that warns."""
    forwarder = _Forwarder(send)
    root = logging.getLogger()
    with _lock:
        _forwarders.append(forwarder)
        logging.captureWarnings(True)
        root.addHandler(forwarder)
    try:
        yield
    finally:
        with _lock:
            root.removeHandler(forwarder)
            _forwarders.remove(forwarder)
            if not _forwarders:
                logging.captureWarnings(False)


def _one_line(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.name == "py.warnings":
        text = text.rpartition("\n  ")[0] or text  # the line of source that warned
    else:
        text = f"{record.name}: {text}"
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text}: {describe_error(record.exc_info[1])}"
    return one_line(text)


def one_line(text: str) -> str:
    """The text without its line breaks, cut to MAX_CHARACTERS."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."


def _is_noise(record: logging.LogRecord) -> bool:
    # Dask warns of its garbage collector and of turns of its event loop that took long.
    return record.name.startswith("distributed") and record.levelno < logging.ERROR
