"""Server: waits for a Prefect server that is away.

Stages do not need it while they work. But Prefect gives up after some minutes when a run that has
finished cannot say so, and the run then stays Running for ever; so it waits here first.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from prefect.settings import get_current_settings

from infra.http import answers

PAUSE_SECONDS = 2.0


@contextmanager
def wait_for_server_on_exit(timeout_seconds: float) -> Iterator[None]:
    """The end of the block, be it an error, waits until the server answers."""
    try:
        yield
    except Exception:
        await_server(timeout_seconds)
        raise
    await_server(timeout_seconds)


def await_server(timeout_seconds: float) -> None:
    """Return when the server answers, when there is none, or after the timeout."""
    address = get_current_settings().api.url
    if not address:
        return
    deadline = time.monotonic() + timeout_seconds
    warned = False
    while not answers(f"{address}/health") and time.monotonic() < deadline:
        if not warned:
            getLogger(__name__).warning("waiting for the Prefect server at %s", address)
            warned = True
        time.sleep(PAUSE_SECONDS)
