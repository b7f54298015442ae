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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import asdict, dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

from infra.devices import core_count, gpu_count
from infra.errors import ProtegeError, told
from infra.logs import LIMIT, Line, Scope, Throttle, listening
from infra.settings import Settings

Item = TypeVar("Item")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

WINDOW = 256  # futures in flight; a scheduler stays small with few, workers stay busy with many
MAX_FAILURES = 50
MAX_FAILED_SHARE = 0.05
FEW_TRIED = 400  # below it, a share says little
FAN_IN = 8
LAST = 100  # before anything that a tree still has to do
LINES = 3 * LIMIT  # of a level in a minute, from all workers together

# Threads of one worker may work for several runs. A run hears of its own work, and of what may be.
_RUN = Scope("run")
_PROCESS = uuid4().hex


class Failures(Exception):
    """Items that failed although everything around them was done."""

    def __init__(self, errors: Sequence[BaseException], tried: int, given_up: bool) -> None:
        self.errors = list(errors)
        stopped = "; too many, the rest was not tried" if given_up else ""
        first = told(self.errors[0])
        super().__init__(f"{len(self.errors)} of {tried} failed{stopped}. The first: {first}")


def too_many(failed: int, tried: int) -> bool:
    """Whether so many failed that trying the rest is pointless (expired credentials, say)."""
    enough = tried >= FEW_TRIED and failed > MAX_FAILED_SHARE * tried
    return failed >= MAX_FAILURES or enough


def ignore() -> None:
    """What is called when nobody watches."""


class Executor(Protocol):
    """What a stage may ask of the machines."""

    @property
    def workers(self) -> int:
        """How many items are worked on at a time."""
        ...

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in any order; `Failures` at the end if there were any."""
        ...

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> "Held[Piece]":
        """Tree reduction: `chunk` each item, `combine` a few pieces at a time, up to one.

        Pieces stay where they were made. Items may not be empty. `on_done` is called after each
        chunk.
        """
        ...

    def then(self, function: Callable[..., Result], *held: "Held[Any]") -> "Held[Result]":
        """What a function makes of what is held, made and held by the machines, too."""
        ...

    def take(self, held: "Held[Result]") -> Result:
        """What is held, brought here. Raises what its making has raised."""
        ...


@dataclass(frozen=True)
class Held(Generic[Result]):
    """What an executor holds, on whatever machine; only that executor can do something with it."""

    place: Any


class Inline:
    """Everything in this process, one after the other."""

    workers = 1

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        ledger = _Ledger()
        for item in items:
            try:
                result = function(item)
            except Exception as error:
                if ledger.failed(error):
                    break
            else:
                ledger.tried += 1
                yield result
        ledger.close()

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Held[Piece]:
        tree: list[list[Piece]] = []
        for piece in self._each(chunk, items):
            _grow(tree, piece, combine)
            on_done()
        return Held(combine([piece for level in reversed(tree) for piece in level]))

    def then(self, function: Callable[..., Result], *held: Held[Any]) -> Held[Result]:
        return Held(function(*(one.place for one in held)))

    def take(self, held: Held[Result]) -> Result:
        result: Result = held.place
        return result

    def _each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(function, items)


class Threads(Inline):
    """Threads of this process, for work that NumPy and Arrow do without Python's lock."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def _each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, items)


def _grow(tree: list[list[Piece]], piece: Piece, combine: Callable[[list[Piece]], Piece]) -> None:
    """Hang a piece into a tree; a level that is full is combined into one piece of the next."""
    for level in tree:
        level.append(piece)
        if len(level) < FAN_IN:
            return
        piece = combine(level)
        level.clear()
    tree.append([piece])


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
    ) -> Held[Piece]:
        self._context = copy_context()
        level, depth = [self._submit(chunk, item) for item in items], 0
        for future in level:
            future.add_done_callback(lambda _: on_done())
        while len(level) > 1 or not depth:
            groups = [level[at : at + FAN_IN] for at in range(0, len(level), FAN_IN)]
            depth += 1
            # What can be combined is combined first, so that pieces do not pile up.
            level = [self._submit(combine, group, priority=depth) for group in groups]
        return Held(level.pop())

    def then(self, function: Callable[..., Result], *held: Held[Any]) -> Held[Result]:
        return Held(self._submit(function, *(one.place for one in held), priority=LAST))

    def take(self, held: Held[Result]) -> Result:
        result: Result = held.place.result()
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


class _Ledger:
    """Counts what was tried and decides when to stop trying."""

    def __init__(self) -> None:
        self.tried = 0
        self._errors: list[BaseException] = []
        self._given_up = False

    def failed(self, error: BaseException) -> bool:
        """Note a failure; True when nothing more should be submitted."""
        self.tried += 1
        self._errors.append(error)
        self._given_up = too_many(len(self._errors), self.tried)
        return self._given_up

    def close(self) -> None:
        if self._errors:
            raise Failures(self._errors, self.tried, self._given_up)


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
