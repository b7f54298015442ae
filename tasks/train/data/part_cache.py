"""Part cache: the parts that a step needs, and the next ones, which are read meanwhile.

    parts = PartCache(samples.read_part)
    parts.keep(stream=0, now=[3, 1], ahead=[7])
    parts[3].images

In: a function that reads a part. Out: parts. What a stream does not need any more is forgotten, so
a stream holds its window and the next one.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from tasks.train.data.samples import Part

READERS = 2  # one would leave the store idle while it decodes what it has read


class PartCache:
    """Parts by number. `keep` is called by one thread; any thread may take a part."""

    def __init__(self, read_part: Callable[[int], Part]) -> None:
        self._read_part = read_part
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="parts")
        self._parts: dict[int, Future[Part]] = {}
        self._kept: dict[int, set[int]] = {}

    def keep(self, stream: int, now: Iterable[int], ahead: Iterable[int]) -> None:
        """Read the parts that a stream needs now, then those ahead; forget its others."""
        wanted = dict.fromkeys([*now, *ahead])
        self._kept[stream] = set(wanted)
        for part in wanted:
            if part not in self._parts:
                self._parts[part] = self._pool.submit(self._read_part, part)
        everything = set().union(*self._kept.values())
        for part in [part for part in self._parts if part not in everything]:
            del self._parts[part]

    def __getitem__(self, part: int) -> Part:
        """A part that is kept, when it has been read. Raises what reading it has raised."""
        return self._parts[part].result()
