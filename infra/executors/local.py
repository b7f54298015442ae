"""Executors of this process: one item after the other, or several in threads.

In: no settings but the number of threads. Out: executors that need neither a cluster nor a second
process.

    with Threads(workers=2) as executor:
        for receipt in executor.run(score_shard, shards): ...
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import islice
from types import TracebackType
from typing import Any

from infra.executors.base import FAN_IN, FailureCount, Handle, Item, Piece, Result, ignore


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

    def preload(self, module: str) -> None:
        """Nothing is gained: this process imports a module when it needs it."""

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
        tree: list[list[Piece]] = []
        for piece in self._each(chunk, items):
            _grow(tree, piece, combine)
            on_done()
        return Handle(combine([piece for level in reversed(tree) for piece in level]))

    def apply(self, function: Callable[..., Result], *handles: Handle[Any]) -> Handle[Result]:
        return Handle(function(*(handle.value for handle in handles)))

    def result(self, handle: Handle[Result]) -> Result:
        result: Result = handle.value
        return result

    def _each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(function, items)


class Threads(Inline):
    """Threads of this process, for work that NumPy and Arrow do without Python's lock."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        failures, source = FailureCount(), iter(items)
        with ThreadPoolExecutor(self.workers) as pool:

            def submit(count: int) -> set[Future[Result]]:
                # What is logged in a thread belongs to whoever asked for the work.
                return {
                    pool.submit(copy_context().run, function, item)
                    for item in islice(source, count)
                }

            pending = submit(2 * self.workers)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if error is None:
                        failures.tried += 1
                        yield future.result()
                    elif failures.add(error):
                        source = iter(())
                pending |= submit(len(done))
        failures.raise_if_any()

    def _each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, items)


def _grow(tree: list[list[Piece]], piece: Piece, combine: Callable[[list[Piece]], Piece]) -> None:
    """Add a piece to a tree; a level that is full is combined into one piece of the next."""
    for level in tree:
        level.append(piece)
        if len(level) < FAN_IN:
            return
        piece = combine(level)
        level.clear()
    tree.append([piece])
