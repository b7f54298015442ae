"""Prefetch: what the next steps need is prepared in a thread while the network works."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

PREFETCH_STEPS = 4
PUT_TIMEOUT_SECONDS = 0.5  # how soon the thread notices that nobody reads any more

T = TypeVar("T")


def prefetch(read: Callable[[int], T], steps: range) -> Iterator[T]:
    """`read(step)` for each step, in order, prepared a few steps ahead."""
    ready: queue.Queue[T | Exception] = queue.Queue(PREFETCH_STEPS)
    stopped = threading.Event()

    def prepare() -> None:
        for step in steps:
            try:
                item: T | Exception = read(step)
            except Exception as error:
                # The caller, not this thread, decides what an error means.
                item = error
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=PUT_TIMEOUT_SECONDS)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or isinstance(item, Exception):
                return

    thread = threading.Thread(target=prepare, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
