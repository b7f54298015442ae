"""Careful: whether work is done that may kill its process, as it has killed one before.

In: a block of work. Out: an answer for whoever asks in this process, in any thread. A decoder then
tries an image in another process first.

    with carefully(batch.is_suspect): ...
    if is_careful(): ...
"""

from collections.abc import Iterator
from contextlib import contextmanager

_blocks: list[None] = []


def is_careful() -> bool:
    """Whether some thread is in such a block."""
    return bool(_blocks)


@contextmanager
def carefully(wanted: bool = True) -> Iterator[None]:
    """Be careful until the end of the block, if that is wanted."""
    if not wanted:
        yield
        return
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()
