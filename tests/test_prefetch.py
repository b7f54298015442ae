"""Prefetch: threads work ahead, in order, and no further than is allowed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import ProtegeError
from infra.prefetch import map_ahead, prefetch

AHEAD = 4


def prefetch_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_prefetch_keeps_the_order_and_stays_a_few_steps_ahead() -> None:
    read_steps: list[int] = []

    def read(step: int) -> int:
        read_steps.append(step)
        return step

    steps = range(3, 50)
    for step, item in zip(steps, prefetch(map(read, steps), AHEAD), strict=True):
        assert item == step
        # One more waits to be put into the queue, and one is being read.
        assert len(read_steps) <= step - 3 + AHEAD + 2
    assert not prefetch_threads()


def test_prefetch_raises_an_error_at_its_step() -> None:
    def read(step: int) -> int:
        if step == 2:
            raise ProtegeError("broken")
        return step

    batches = prefetch(map(read, range(5)), AHEAD)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ProtegeError, match="broken"):
        next(batches)
    assert not prefetch_threads()


def test_prefetch_ends_its_thread_with_a_caller_that_stops_early() -> None:
    batches = prefetch(range(1_000), AHEAD)
    assert next(batches) == 0
    assert prefetch_threads() == 1
    batches.close()
    assert not prefetch_threads()


def test_prefetch_closes_the_iterator_of_a_caller_that_stops_early() -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1_000)
        finally:
            closed.set()

    batches = prefetch(numbers(), AHEAD)
    assert next(batches) == 0
    batches.close()
    assert closed.is_set()


def test_pool_is_given_no_more_items_than_allowed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        for done, result in enumerate(map_ahead(pool, lambda item: item * 2, items(), AHEAD)):
            assert result == done * 2
            assert len(taken) <= done + AHEAD
    assert len(taken) == 50
