"""Order: every sample once an epoch, for any streams and windows; a part in one stream alone."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.train.data.order import SampleOrder

ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(lambda rows: sum(rows) > 0)
Place = tuple[int, int]


def read(order: SampleOrder, count: int, stream: int = 0, first: int = 0) -> list[Place]:
    return [order.place(position, stream) for position in range(first, first + count)]


def everything(rows: list[int]) -> set[Place]:
    return {(part, row) for part, count in enumerate(rows) for row in range(count)}


@given(ROWS, st.integers(0, 5), st.integers(1, 4))
def test_every_epoch_has_every_sample_once(rows: list[int], seed: int, window: int) -> None:
    order, total = SampleOrder(rows, seed, window), sum(rows)
    for epoch in range(3):
        places = read(order, total, first=epoch * total)
        assert len(places) == total
        assert set(places) == everything(rows)


@given(ROWS, st.integers(0, 5), st.integers(1, 4), st.integers(0, 60))
def test_a_place_depends_on_the_seed_and_the_position_alone(
    rows: list[int], seed: int, window: int, position: int
) -> None:
    asked_before = SampleOrder(rows, seed, window)
    read(asked_before, 30)
    assert SampleOrder(rows, seed, window).place(position) == asked_before.place(position)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=9), st.integers(2, 4), st.integers(1, 3))
def test_streams_share_out_the_parts_of_an_epoch(
    rows: list[int], num_streams: int, window: int
) -> None:
    order = SampleOrder(rows, 7, window, num_streams)
    parts_of: list[set[int]] = []
    samples: list[Place] = []
    for stream in range(num_streams):
        own: list[Place] = []
        while (place := order.place(len(own), stream)) not in own:
            own.append(place)
        # Up to the first repetition, which may stand in the next epoch.
        parts_of.append({part for part, _ in own[: min(rows)]})
        samples += own[: min(rows)]
    assert len(samples) == len(set(samples))
    assert sum(map(len, parts_of)) == len(set().union(*parts_of))


def test_epochs_seeds_and_streams_have_their_own_orders() -> None:
    orders = {
        tuple(read(SampleOrder([50, 50], seed, 1, 2), 50, stream, first))
        for seed in (0, 1)
        for stream in (0, 1)
        for first in (0, 50)
    }
    assert len(orders) == 8


@given(ROWS, st.integers(1, 3), st.integers(1, 6), st.integers(0, 40))
def test_parts_of_a_batch_are_there_and_the_next_ones_follow(
    rows: list[int], window: int, size: int, first: int
) -> None:
    order = SampleOrder(rows, 0, window)
    now, ahead = order.parts(range(first, first + size))
    assert {part for part, _ in read(order, size, first=first)} <= set(now)
    last = first + size - 1
    here = order.parts(range(last, last + 1))
    later = (order.parts(range(at, at + 1)) for at in range(last, last + 3 * sum(rows) + 1))
    # A data set of one window and one part is ahead of itself for ever.
    following = next((parts for parts in later if parts != here), here)
    assert following[0] == ahead


def test_first_window_is_ordered_by_the_numbers_that_have_ordered_the_parts() -> None:
    """What small data sets were trained on must not change: their figures are published."""
    import numpy as np

    rng = np.random.default_rng([3, 0])
    parts = rng.permutation(3)
    pairs = np.concatenate([np.stack([np.full(4, part), np.arange(4)], 1) for part in parts])
    expected = [(int(part), int(row)) for part, row in rng.permutation(pairs)]
    assert read(SampleOrder([4, 4, 4], 3, window=4), 12) == expected
