"""Profiling: Dask looks at the frames of all threads of a worker, a hundred times a second.

In: the client of a scheduler that others have started. Out: its workers, without that, where Python
cannot do it safely. In Python 3.11, `sys._current_frames` may collect garbage while it holds the
lock of the list of threads. For each collection a function of Dask's is called, which lets other
threads run; one that starts a thread then waits for that list, with Python's own lock in its hand,
and the process stands still for ever (https://github.com/python/cpython/issues/106883).

    stop_profiling(client)
"""

import sys
from typing import Any

FIRST_SAFE_PYTHON = (3, 12)


def stop_profiling(client: Any) -> None:
    """Stop it in the workers that are there, and in those that will come."""
    if sys.version_info >= FIRST_SAFE_PYTHON:
        return
    from distributed import WorkerPlugin

    class StopProfiling(WorkerPlugin):
        """Has an effect when a worker starts, or at once where it runs."""

        def setup(self, worker: Any) -> None:
            if callback := worker.periodic_callbacks.pop("profile", None):
                callback.stop()

    client.register_plugin(StopProfiling(), name="protege-stop-profiling")
