"""Executors: the few ways in which stages ask for many things to be done.

In: a function and a list of items. Out: the results, in the order in which they come. `Inline`
does the work in this process (tests, notebooks), `Cluster` spreads it over Dask. Failures are
gathered and raised when everything else is done, as one `Failures`.

    with Cluster(Settings()) as executor:
        for receipt in executor.run(score_one, shards): ...
"""

import atexit
import gc
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import asdict, replace
from itertools import islice
from types import TracebackType
from typing import Any
from uuid import uuid4

from infra.devices import core_count, gpu_count
from infra.errors import ProtegeError
from infra.executors.base import FAN_IN, Handle, Item, Piece, Result, _Ledger, ignore
from infra.logs import LIMIT, Line, Scope, Throttle, listening
from infra.settings import Settings

WINDOW = 256  # futures in flight; a scheduler stays small with few, workers stay busy with many

LAST = 100  # before anything that a tree still has to do

LINES = 3 * LIMIT  # of a level in a minute, from all workers together

# Threads of one worker may work for several runs. A run hears of its own work, and of what may be.
_RUN = Scope("run")

_PROCESS = uuid4().hex


class Cluster:
    """A Dask cluster, local or at an address; it starts when the first work comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._local: Any = None
        self._topic = f"protege-{uuid4().hex}"
        self._context = Context()
        self._throttle = Throttle(self._log, LINES)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.close()
            self._throttle.flush()
        if self._local is not None:
            self._local.close()

    @property
    def workers(self) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads)

    @property
    def client(self) -> Any:
        """The Dask client; the cluster starts here."""
        if self._client is None:
            # Imported here: a campaign that is all done never needs a cluster.
            from distributed import Client

            address = self._settings.scheduler or self._start_local()
            try:
                self._client = Client(address)
            except (OSError, ValueError) as error:
                raise ProtegeError(
                    f"no Dask scheduler answers at PROTEGE_SCHEDULER={address}: {error}"
                ) from error
            self._client.subscribe_topic(self._topic, self._hear)
            if self._local is not None:
                # A worker with torch takes seconds to take itself to pieces, and is then killed.
                self._client.run(atexit.register, gc.freeze)
        return self._client

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        from distributed import as_completed

        self._context = copy_context()
        ledger = _Ledger()
        source = iter(items)
        first = [self._submit(function, item) for item in islice(source, WINDOW)]
        flowing = as_completed(first)
        for future in flowing:
            error = future.exception()
            if error is not None:
                if ledger.failed(error):
                    source = iter(())
            else:
                ledger.tried += 1
                yield future.result()
            for item in islice(source, 1):
                flowing.add(self._submit(function, item))
        ledger.close()

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Handle[Piece]:
        self._context = copy_context()
        level, depth = [self._submit(chunk, item) for item in items], 0
        for future in level:
            future.add_done_callback(lambda _: on_done())
        while len(level) > 1 or not depth:
            groups = [level[at : at + FAN_IN] for at in range(0, len(level), FAN_IN)]
            depth += 1
            # What can be combined is combined first, so that pieces do not pile up.
            level = [self._submit(combine, group, priority=depth) for group in groups]
        return Handle(level.pop())

    def apply(self, function: Callable[..., Result], *handles: Handle[Any]) -> Handle[Result]:
        return Handle(self._submit(function, *(handle.value for handle in handles), priority=LAST))

    def result(self, handle: Handle[Result]) -> Result:
        result: Result = handle.value.result()
        return result

    def _submit(self, function: Callable[..., Any], *items: Any, priority: int = 0) -> Any:
        from dask.utils import funcname

        # A key of its own: Dask must not answer from an earlier run whose outputs may be gone.
        key = f"{funcname(function)}-{uuid4().hex}"
        given = (_heard, function, self._topic, _PROCESS, *items)
        return self.client.submit(*given, key=key, priority=priority)

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._throttle.take(Line(**event[1]["line"]))

    def _log(self, line: Line) -> None:
        # Dask calls in a thread of its own, but the line belongs to whoever asked for the work.
        logger = logging.getLogger(__name__)
        self._context.copy().run(logger.log, line.level, "%s", line)

    def _start_local(self) -> Any:
        from distributed import LocalCluster

        with _kept_environment():
            self._local = LocalCluster(
                n_workers=self._settings.workers or _default_workers(),
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
            )
        return self._local


def _heard(function: Callable[..., Any], topic: str, process: str, *items: Any) -> Any:
    """In a worker: the result of the function; what is warned of meanwhile is told to the run.

    Done around each call, so workers need no preparation and keep nothing of a run that is gone.
    """
    if process == _PROCESS:
        # A worker within the process of the run: what it says is in the right place already.
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
    with _RUN.at(topic), listening(take):
        try:
            return function(*items)
        finally:
            throttle.flush()


@contextmanager
def _kept_environment() -> Iterator[None]:
    """Put the environment back: Dask leaves in it what is meant for its workers.

    One thread, and a trimming of memory at every turn, which makes a training twice as slow.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _default_workers() -> int:
    return gpu_count() or core_count()
