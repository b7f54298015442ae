"""Server: waits for a Prefect server that is away.

Stages do not need it while they work. But Prefect gives up after some minutes when a run that has
finished cannot say so, and the run then stays Running for ever; so it waits here first.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from prefect.settings import get_current_settings

PAUSE_SECONDS = 2.0


@contextmanager
def heard(patience_seconds: float) -> Iterator[None]:
    """The end of the block, be it an error, waits until the server can hear of it."""
    try:
        yield
    except Exception:
        await_server(patience_seconds)
        raise
    await_server(patience_seconds)


def await_server(patience_seconds: float) -> None:
    """Return when the server answers, when there is none, or when patience ends."""
    address = get_current_settings().api.url
    if not address:
        return
    deadline = time.monotonic() + patience_seconds
    told = False
    while not _answers(address) and time.monotonic() < deadline:
        if not told:
            getLogger(__name__).warning("waiting for the Prefect server at %s", address)
            told = True
        time.sleep(PAUSE_SECONDS)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True  # it may want to know who asks, but it is there
    except OSError:
        return False
