"""Waiting: for an event, however long it takes; a limit here ends a hang and judges no speed.

    wait_for(lambda: served.ranks(run_id), "a training is at work")

Limits are many times what an idle machine needs. PROTEGE_TEST_PATIENCE=3 makes all of them three
times as long, for a machine on which even that is too little.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

Event = TypeVar("Event")

PATIENCE = float(os.environ.get("PROTEGE_TEST_PATIENCE", "1"))
EVENT_SECONDS = 300 * PATIENCE
"""Limit of a single event: a process that ends, an answer, a line in a log."""
TEST_SECONDS = 6 * EVENT_SECONDS
"""Limit of a whole test with its fixtures, so that the event that is missing is named before."""


def wait_for(condition: Callable[[], Event], what: str, *, every_seconds: float = 0.2) -> Event:
    """The first true value of the condition; fails with `what` when it does not come."""
    deadline = time.monotonic() + EVENT_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {EVENT_SECONDS:.0f} s: {what}"
        time.sleep(every_seconds)
