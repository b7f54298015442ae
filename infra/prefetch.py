"""Prefetch: threads work ahead, in order, and never by more than a few items.

In: an iterator, or a function and its items. Out: the same results, of which the next ones are
being made while the caller works on one. How far ahead bounds the memory that they take.

    for batch in prefetch(map(read, steps), ahead=4): ...

    with ThreadPoolExecutor(2) as pool:
        for pixels in map_ahead(pool, decode, images, ahead=8): ...
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

PUT_TIMEOUT_SECONDS = 0.5  # how soon the thread notices that nobody reads any more

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _End:
    """After the last item; `error` is what the iterator raised, if it did."""

    error: Exception | None


def prefetch(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """The items, in order; a thread makes at most `ahead` + 1 of them before they are asked for.

    Raises what the iterator raises, at its place.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(ahead)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_prepare, args=(items, ready, stopped), name="prefetch", daemon=True
    )
    thread.start()
    try:
        while not isinstance(found := ready.get(), _End):
            yield found
        if found.error is not None:
            raise found.error
    finally:
        stopped.set()
        thread.join()


def _prepare(
    items: Iterable[Item], ready: "queue.Queue[Item | _End]", stopped: threading.Event
) -> None:
    error = None
    # Closed here: a generator is closed in the thread that runs it.
    with closing(item for item in items) as source:
        try:
            for item in source:
                if not _put(item, ready, stopped):
                    return
        except Exception as raised:
            # The caller, not this thread, decides what an error means.
            error = raised
    _put(_End(error), ready, stopped)


def _put(item: Item, ready: "queue.Queue[Item]", stopped: threading.Event) -> bool:
    """Whether it was taken; False when nobody reads any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=PUT_TIMEOUT_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`function` of every item, in order; at most `ahead` items are with the pool at a time."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
