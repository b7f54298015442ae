"""The interface of an executor: what a stage can ask of the machines that do its work.

In: a function and a list of items. Out: results, as they come. Errors of single items are collected
and raised as one `Failures` when all other items are done.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from infra.errors import describe_error

Item = TypeVar("Item")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

MAX_FAILURES = 50
MAX_FAILED_SHARE = 0.05
MIN_TRIED_FOR_SHARE = 400  # a share of fewer items says little
LISTED_REASONS = 10
FAN_IN = 8  # pieces that a step of a reduction combines


class Failures(Exception):
    """Items that failed. All others were done, unless too many failed and the rest was dropped."""

    def __init__(self, errors: Sequence[BaseException], tried: int, given_up: bool) -> None:
        self.errors = list(errors)
        stopped = "; too many, the rest was not tried" if given_up else ""
        super().__init__(f"{len(self.errors)} of {tried} failed{stopped}{_reasons(self.errors)}")


def _reasons(errors: Sequence[BaseException]) -> str:
    """Each sentence once, with how often it came, the most frequent first."""
    counts = Counter(describe_error(error) for error in errors).most_common()
    if len(counts) == 1:
        return f": {counts[0][0]}"
    lines = [f"\n  {count:,} times: {sentence}" for sentence, count in counts[:LISTED_REASONS]]
    more = len(counts) - LISTED_REASONS
    return ":" + "".join(lines) + (f"\n  and {more:,} other reasons" if more > 0 else "")


def too_many(failed: int, tried: int) -> bool:
    """Whether so many failed that trying the rest is pointless (expired credentials, say)."""
    enough = tried >= MIN_TRIED_FOR_SHARE and failed > MAX_FAILED_SHARE * tried
    return failed >= MAX_FAILURES or enough


class FailureCount:
    """Counts what was tried, and decides when to stop trying."""

    def __init__(self) -> None:
        self.tried = 0
        self._errors: list[BaseException] = []
        self._given_up = False

    def add(self, error: BaseException) -> bool:
        """Count a failure; True when nothing more should be submitted."""
        self.tried += 1
        self._errors.append(error)
        self._given_up = too_many(len(self._errors), self.tried)
        return self._given_up

    def raise_if_any(self) -> None:
        """Raise Failures at the end, when everything else is done."""
        if self._errors:
            raise Failures(self._errors, self.tried, self._given_up)


def function_name(function: Callable[..., Any]) -> str:
    """The name of a function, without what it is bound to."""
    if isinstance(function, functools.partial):
        return function_name(function.func)
    return getattr(function, "__name__", type(function).__name__).strip("_")


def describe_work(function: Callable[[Item], Any], item: Item) -> str:
    """What an error calls this work; a function may say it in its method `describe(item)`."""
    describe = getattr(function, "describe", None)
    return str(describe(item)) if describe is not None else function_name(function)


def ignore() -> None:
    """The callback of a caller that needs none."""


@dataclass(frozen=True)
class Handle(Generic[Result]):
    """A result to come, which stays on the machine that makes it; only its executor can use it."""

    future: Any


class Executor(Protocol):
    """What a stage may ask of the machines."""

    @property
    def workers(self) -> int:
        """How many items are worked on at a time."""
        ...

    def on_gpus(self) -> "Executor":
        """The same for work with networks: by the workers that have GPUs, where some are for it."""
        ...

    def preload(self, module: str) -> None:
        """Let every worker that is there import a module, while this process does other things."""
        ...

    def everywhere(self, function: Callable[[], object]) -> None:
        """Call a function in every worker that is there."""
        ...

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in any order; `Failures` at the end if there were any.

        A function may have a method `split(item)` with the items to try instead of one of which a
        worker has died; without any, it has failed.
        """
        ...

    def reduce(
        self,
        chunk: Callable[[Item], Piece],
        combine: Callable[[list[Piece]], Piece],
        items: Sequence[Item],
        on_done: Callable[[], None] = ignore,
    ) -> Handle[Piece]:
        """Tree reduction: `chunk` each item, `combine` a few pieces at a time, up to one.

        Pieces stay where they were made. Items may not be empty. `on_done` is called after each
        chunk.
        """
        ...

    def apply(self, function: Callable[..., Result], *handles: Handle[Any]) -> Handle[Result]:
        """The result of a function of results; it stays on the machines, too."""
        ...

    def result(self, handle: Handle[Result]) -> Result:
        """The result itself, brought here. Raises what the work for it has raised."""
        ...
