"""Executors of this process: one item after the other, or several at a time in threads.

In: the number of threads. Out: executors that need neither a cluster nor a second process.

    with Threads(workers=2) as executor:
        for receipt in executor.run(score_shard, shards): ...
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from types import TracebackType
from typing import Any

from infra.executors.base import FAN_IN, FailureCount, Handle, Item, Piece, Result, ignore

FUTURES_PER_THREAD = 2  # a thread that is done finds its next item waiting


class Inline:
    """Everything in this process, one after the other."""

    workers = 1

    def __enter__(self) -> "Inline":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing was opened."""

    def on_gpus(self) -> "Inline":
        return self

    def preload(self, module: str) -> None:
        """Nothing is gained: this process imports a module when it needs it."""

    def everywhere(self, function: Callable[[], object]) -> None:
        function()

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        failures = FailureCount()
        for item in items:
            try:
                result = function(item)
            except Exception as error:
                if failures.add(error):
                    break
            else:
                failures.tried += 1
                yield result
        failures.raise_if_any()

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Handle[Piece]:
        def reduce_all() -> Piece:
            tree: list[list[Piece]] = []
            for piece in self._map(chunk, items):
                _grow(tree, piece, combine)
                on_done()
            return combine([piece for level in reversed(tree) for piece in level])

        return Handle(_completed(reduce_all))

    def apply(self, function: Callable[..., Result], *handles: Handle[Any]) -> Handle[Result]:
        return Handle(_completed(lambda: function(*map(self.result, handles))))

    def result(self, handle: Handle[Result]) -> Result:
        result: Result = handle.future.result()
        return result

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The result of each item, in order."""
        return map(function, items)


class Threads(Inline):
    """Threads of this process, for work that NumPy and Arrow do without Python's lock."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        failures, source = FailureCount(), iter(items)
        with self._pool() as submit:
            pending = {submit(function, item) for item in islice(source, self._window)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if error is None:
                        failures.tried += 1
                        yield future.result()
                    elif failures.add(error):
                        source = iter(())
                pending |= {submit(function, item) for item in islice(source, len(done))}
        failures.raise_if_any()

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        source = iter(items)
        with self._pool() as submit:
            # Only a few results wait for their turn, however many items there are.
            pending = deque(submit(function, item) for item in islice(source, self._window))
            while pending:
                yield pending.popleft().result()
                pending.extend(submit(function, item) for item in islice(source, 1))

    @property
    def _window(self) -> int:
        return FUTURES_PER_THREAD * self.workers

    @contextmanager
    def _pool(self) -> Iterator[Callable[..., Future[Any]]]:
        """Threads, as a function that submits work to them."""
        pool = ThreadPoolExecutor(self.workers)

        def submit(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
            # In a copy of the context: what a thread logs belongs to the caller's run.
            return pool.submit(copy_context().run, function, *arguments)

        try:
            yield submit
        finally:
            # A caller that stops early does not wait for work that has not begun.
            pool.shutdown(cancel_futures=True)


def _completed(work: Callable[[], Result]) -> Future[Result]:
    """A future of work that is done here and now; its error is raised with its result, too."""
    future: Future[Result] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


def _grow(tree: list[list[Piece]], piece: Piece, combine: Callable[[list[Piece]], Piece]) -> None:
    """Add a piece to a tree; a level that is full is combined into one piece of the next."""
    for level in tree:
        level.append(piece)
        if len(level) < FAN_IN:
            return
        piece = combine(level)
        level.clear()
    tree.append([piece])
