"""Executors of this process: one after the other, or in threads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.executors.base import FAN_IN, Handle, Item, Piece, Result, _Ledger, ignore


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
