"""The executor that spreads work over a Dask cluster, local or at an address.

In: settings. Out: results, as they come.

    with Cluster(settings) as executor:
        for receipt in executor.on_gpus().run(score_shard, shards): ...
"""

import logging
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
from infra.executors.clusters import CPU, GPU, open_client
from infra.executors.deaths import WorkerKilled, readable_error
from infra.executors.worker_logs import WorkerLog
from infra.settings import DaskSettings

logger = logging.getLogger(__name__)

FUTURES_PER_WORKER = 3  # a worker that is done finds its next item waiting
MIN_FUTURES = 16
TASKS_PER_MESSAGE = 100  # more of them may be a message that Dask finds too large
COUNTED_SECONDS = 1.0  # how long the number of workers is believed, for it takes a request
EVERYBODY = "everybody"  # no pool, but all workers
HIGHEST_PRIORITY = 100  # before anything that a tree still has to do


class Connection:
    """The client of a cluster, which starts when the first work comes, and who works in it."""

    def __init__(self, settings: DaskSettings) -> None:
        self.settings = settings
        self.opened: Any = None
        self.worker_log = WorkerLog()
        self._exit = ExitStack()
        self._slots: dict[str, int] = {}
        self._counted_until = 0.0

    @property
    def client(self) -> Any:
        """The Dask client; the cluster starts here."""
        if self.opened is None:
            self.opened = self._exit.enter_context(open_client(self.settings))
            self.opened.subscribe_topic(self.worker_log.topic, self.worker_log.receive)
        return self.opened

    def slots(self, pool: str) -> int | None:
        """How many items a pool works on at a time; None where there has never been such a pool."""
        now = time.monotonic()
        if now >= self._counted_until:
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            # A pool stays one when its last worker has died and the next is being started.
            self._slots = dict.fromkeys(self._slots, 0)
            self._slots[EVERYBODY] = sum(worker["nthreads"] for worker in workers)
            for worker in workers:
                for name, count in worker["resources"].items():
                    self._slots[name] = self._slots.get(name, 0) + int(count)
            self._counted_until = now + COUNTED_SECONDS
        return self._slots.get(pool)

    def close(self) -> None:
        """End what was opened. What goes wrong is a warning: results, or an error, are there."""
        try:
            self._exit.close()
        except Exception:
            logger.warning("the connection to the Dask cluster did not end well", exc_info=True)
        self.opened = None
        self.worker_log.flush()


class Pool:
    """The workers of a cluster that do one kind of work: a Dask resource of that name, one each.

    Where no worker has that resource, everybody does the work.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name

    @property
    def client(self) -> Any:
        """The Dask client; the cluster starts here."""
        return self._connection.client

    @property
    def workers(self) -> int:
        slots = self._connection.slots(self._pool)
        return max(1, slots or 0)

    @property
    def _pool(self) -> str:
        """The pool of that name, or everybody where there is none."""
        return EVERYBODY if self._connection.slots(self._name) is None else self._name

    def on_gpus(self) -> "Pool":
        return Pool(self._connection, GPU)

    def preload(self, module: str) -> None:
        if (client := self._connection.opened) is None:
            return
        from distributed import fire_and_forget

        pool = self._pool
        for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
            if pool != EVERYBODY and pool not in worker["resources"]:
                continue
            key = f"preload-{uuid4().hex}"
            fire_and_forget(client.submit(_load, module, workers=[address], key=key))

    def everywhere(self, function: Callable[[], object]) -> None:
        if self._connection.opened is not None:
            self._connection.opened.run(function)

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        from distributed import as_completed

        self._connection.worker_log.log_for_caller()
        failures, source = FailureCount(), iter(items)
        pending: dict[str, Item] = {}
        futures = as_completed(loop=self.client.loop)

        def submit(items: Sequence[Item]) -> None:
            for item, future in zip(items, self._submit(function, items), strict=True):
                pending[future.key] = item
                futures.add(future)

        submit(list(islice(source, self._window())))
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
            submit(list(islice(source, max(0, self._window() - len(pending)))))
        failures.raise_if_any()

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Handle[Piece]:
        self._connection.worker_log.log_for_caller()
        level, depth = self._submit(chunk, items), 0
        for future in level:
            future.add_done_callback(lambda _: on_done())
        while len(level) > 1 or not depth:
            groups = [level[at : at + FAN_IN] for at in range(0, len(level), FAN_IN)]
            depth += 1
            # What can be combined is combined first, so that pieces do not pile up.
            level = self._submit(combine, groups, priority=depth)
        return Handle(level.pop())

    def apply(self, function: Callable[..., Result], *handles: Handle[Any]) -> Handle[Result]:
        future = self.client.submit(
            self._connection.worker_log.wrap(function),
            *(handle.future for handle in handles),
            key=_new_key(function),
            priority=HIGHEST_PRIORITY,
            resources=self._needs,
        )
        return Handle(future)

    def result(self, handle: Handle[Result]) -> Result:
        if (error := self._error_of(handle.future)) is not None:
            raise error
        result: Result = handle.future.result()
        return result

    def _window(self) -> int:
        """How many futures there are at a time; more when workers have joined."""
        return max(MIN_FUTURES, FUTURES_PER_WORKER * self.workers)

    def _error_of(self, future: Any, work: str = "") -> BaseException | None:
        try:
            error: BaseException | None = future.exception()
        except CancelledError as gone:
            error = gone
        if error is None:
            return None
        # Of a cluster that has gone away nothing can be asked.
        workers = 0 if isinstance(error, CancelledError) else self.workers
        return readable_error(error, self._connection.settings, workers, work)

    def _submit(
        self, function: Callable[..., Any], items: Sequence[Any], priority: int = 0
    ) -> list[Any]:
        """A future for each item, in few messages.

        The scheduler takes up messages one by one. Of a thousand, the last would wait for longer
        than a connection may that nobody reads (30 s).
        """
        if not items:
            return []
        wrapped = self._connection.worker_log.wrap(function)
        keys = [_new_key(function) for _ in items]
        futures: list[Any] = self.client.map(
            wrapped,
            items,
            key=keys,
            priority=priority,
            resources=self._needs,
            batch_size=TASKS_PER_MESSAGE,
        )
        return futures

    @property
    def _needs(self) -> dict[str, int] | None:
        """The resources of a task."""
        return None if self._pool == EVERYBODY else {self._pool: 1}


class Cluster(Pool):
    """A Dask cluster, and in it the workers for work without networks."""

    def __init__(self, settings: DaskSettings | None = None) -> None:
        super().__init__(Connection(settings or DaskSettings()), CPU)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()


def _split(function: Callable[[Item], Any], item: Item, error: BaseException) -> Sequence[Item]:
    """What to try instead of an item of which a worker has died, if the function knows it."""
    split = getattr(function, "split", None)
    return split(item) if split is not None and isinstance(error, WorkerKilled) else ()


def _new_key(function: Callable[..., Any]) -> str:
    # One of its own: Dask must not answer from an earlier run whose outputs may be gone.
    return f"{function_name(function)}-{uuid4().hex}"


def _load(module: str) -> None:
    import_module(module)
