"""Background: work that nobody waits for, one piece at a time, and work that is tried again.

In: a function. Out: it runs in a thread; an error of it is a warning, and is kept.

    saving = Background("the checkpoint could not be written")
    if not saving.is_busy:
        saving.start(lambda: save(state))
    saving.wait()
    saving.error              # of the last piece of work; empty when it was done

    data = insist(lambda: store.read(name), "the part cannot be read")
"""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from infra.errors import StoreAway, describe_error

INSIST_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class Background:
    """One thread at a time."""

    def __init__(self, complaint: str) -> None:
        self.error = ""
        self._complaint = complaint
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the last piece of work is still being done."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        """Begin with a piece of work; the one before must have ended."""
        assert not self.is_busy
        # In a copy of the context, so that its warnings name the same rank.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._do, work), name="background", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the last piece of work has ended, or for so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.error = describe_error(error)
            logger.warning("%s: %s", self._complaint, self.error)
        else:
            self.error = ""


def insist(
    work: Callable[[], Result],
    complaint: str,
    *,
    seconds: float = INSIST_SECONDS,
    pause: Callable[[float], object] = time.sleep,
) -> Result:
    """The result of the work, which is tried again while the store is away.

    Raises the last error after so many seconds, and any other error at once. `pause` waits between
    two attempts.
    """
    deadline, pause_seconds = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return work()
        except StoreAway as error:
            if time.monotonic() >= deadline:
                raise
            logger.warning("%s, and is tried again: %s", complaint, error)
        pause(pause_seconds)
        pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * pause_seconds)
