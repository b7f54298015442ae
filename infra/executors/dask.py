"""The executor that spreads work over a Dask cluster, local or at an address.

In: settings. Out: results, as they come.

    with Cluster(settings) as executor:
        for receipt in executor.run(score_shard, shards): ...
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack
from importlib import import_module
from itertools import islice
from types import TracebackType
from typing import Any
from uuid import uuid4

from infra.executors.base import (
    FAN_IN,
    FailureCount,
    Handle,
    Item,
    Piece,
    Result,
    describe_work,
    function_name,
    ignore,
)
from infra.executors.clusters import open_client
from infra.executors.deaths import WorkerKilled, readable_error
from infra.executors.worker_logs import WorkerLog
from infra.settings import DaskSettings

FUTURES_PER_WORKER = 3  # a worker that is done finds its next item waiting
MIN_FUTURES = 16
COUNTED_SECONDS = 1.0  # how long the number of workers is believed, for it takes a request
HIGHEST_PRIORITY = 100  # before anything that a tree still has to do


class Cluster:
    """A Dask cluster; it starts when the first work comes."""

    def __init__(self, settings: DaskSettings | None = None) -> None:
        self._settings = settings or DaskSettings()
        self._client: Any = None
        self._opened = ExitStack()
        self._worker_log = WorkerLog()
        self._counted, self._counted_until = 0, 0.0

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()
        self._client = None
        self._worker_log.flush()

    @property
    def workers(self) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads)

    @property
    def client(self) -> Any:
        """The Dask client; the cluster starts here."""
        if self._client is None:
            self._client = self._opened.enter_context(open_client(self._settings))
            self._client.subscribe_topic(self._worker_log.topic, self._worker_log.receive)
        return self._client

    def preload(self, module: str) -> None:
        if self._client is None:
            return
        from distributed import fire_and_forget

        for address in self._client.nthreads():
            key = f"preload-{uuid4().hex}"
            fire_and_forget(self._client.submit(_load, module, workers=[address], key=key))

    def everywhere(self, function: Callable[[], object]) -> None:
        if self._client is not None:
            self._client.run(function)

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        from distributed import as_completed

        self._worker_log.log_for_caller()
        failures, source = FailureCount(), iter(items)
        pending: dict[str, Item] = {}
        futures = as_completed(loop=self.client.loop)

        def submit(items: Iterable[Item]) -> None:
            for item in items:
                future = self._submit(function, item)
                pending[future.key] = item
                futures.add(future)

        submit(islice(source, self._window()))
        for future in futures:
            item = pending.pop(future.key)
            error = self._error_of(future, describe_work(function, item))
            if error is None:
                failures.tried += 1
                yield future.result()
            elif smaller := _split(function, item, error):
                submit(smaller)
            elif failures.add(error):
                source = iter(())
            submit(islice(source, max(0, self._window() - len(pending))))
        failures.raise_if_any()

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Handle[Piece]:
        self._worker_log.log_for_caller()
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
        futures = (handle.future for handle in handles)
        return Handle(self._submit(function, *futures, priority=HIGHEST_PRIORITY))

    def result(self, handle: Handle[Result]) -> Result:
        if (error := self._error_of(handle.future)) is not None:
            raise error
        result: Result = handle.future.result()
        return result

    def _window(self) -> int:
        """How many futures there are at a time; more when workers have joined."""
        now = time.monotonic()
        if now >= self._counted_until:
            self._counted, self._counted_until = self.workers, now + COUNTED_SECONDS
        return max(MIN_FUTURES, FUTURES_PER_WORKER * self._counted)

    def _error_of(self, future: Any, work: str = "") -> BaseException | None:
        try:
            error: BaseException | None = future.exception()
        except CancelledError as gone:
            error = gone
        if error is None:
            return None
        # Of a cluster that has gone away nothing can be asked.
        workers = 0 if isinstance(error, CancelledError) else self.workers
        return readable_error(error, self._settings, workers, work)

    def _submit(self, function: Callable[..., Any], *items: Any, priority: int = 0) -> Any:
        # A key of its own: Dask must not answer from an earlier run whose outputs may be gone.
        key = f"{function_name(function)}-{uuid4().hex}"
        wrapped = self._worker_log.wrap(function)
        return self.client.submit(*wrapped, *items, key=key, priority=priority)


def _split(function: Callable[[Item], Any], item: Item, error: BaseException) -> Sequence[Item]:
    """What to try instead of an item of which a worker has died, if the function knows it."""
    split = getattr(function, "split", None)
    return split(item) if split is not None and isinstance(error, WorkerKilled) else ()


def _load(module: str) -> None:
    import_module(module)
