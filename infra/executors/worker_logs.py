"""Worker logs: what a Dask worker warns of reaches the run that asked for the work.

In: a function to run in a worker, and the topic of a run. Out: its result, and `Line`s as events of
the topic, which the run's `WorkerLog` logs. This is done around each call, so workers need no
preparation and keep nothing of a run that is gone.
"""

import logging
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from uuid import uuid4

from infra.logs import LINES_PER_WINDOW, Line, Scope, Throttle, forward_warnings

RUN_LINES_PER_WINDOW = 3 * LINES_PER_WINDOW  # from all workers together

# Threads of a worker may work for several runs. A run gets the warnings of its own work, and those
# of threads that belong to no run, which may be its own.
_RUN = Scope("run")
_PROCESS = uuid4().hex


class WorkerLog:
    """The side of the run: it logs what its workers warn of."""

    def __init__(self) -> None:
        self.topic = f"protege-{uuid4().hex}"
        self._context = Context()
        self._throttle = Throttle(self._log, RUN_LINES_PER_WINDOW)

    def log_for_caller(self) -> None:
        """Log in the context of the caller from now on, so that lines are in its run's log."""
        self._context = copy_context()

    def receive(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Log an event of the topic. Dask calls this in a thread of its own."""
        self._throttle.take(Line(**event[1]["line"]))

    def flush(self) -> None:
        """Log the lines that were only counted."""
        self._throttle.flush()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What to submit instead of the function."""
        return partial(run_with_log_forwarding, function, self.topic, _PROCESS)

    def _log(self, line: Line) -> None:
        logger = logging.getLogger(__name__)
        self._context.copy().run(logger.log, line.level, "%s", line)


def run_with_log_forwarding(
    function: Callable[..., Any], topic: str, process: str, *items: Any
) -> Any:
    """In a worker: the result of the function, whose warnings are sent to the topic."""
    if process == _PROCESS:
        # A worker within the process of the run logs in the right place already.
        return function(*items)
    from distributed import get_worker

    worker = get_worker()

    def send(line: Line) -> None:
        place = ", ".join(filter(None, (f"worker {worker.name}", line.place)))
        worker.log_event(topic, {"line": asdict(replace(line, place=place))})

    def take(line: Line) -> None:
        if _RUN.value() in ("", topic):
            throttle.take(line)

    throttle = Throttle(send)
    with _RUN.at(topic), forward_warnings(take):
        try:
            return function(*items)
        finally:
            throttle.flush()
