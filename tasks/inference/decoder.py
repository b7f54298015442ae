"""Decoder: what makes a network's input of many items, in threads or in processes.

In: items, a few at a time, and places for their pixels. Out: the seconds that a processor took, and
the problems of those that are unusable, by place. Whatever else a function finds out about an image
is given to the item that it came from.

    decoder = Decoder(prepare, bytes_of, take, in_processes=True)
    seconds, problems = decoder.decode(items, places_NSSC)
"""

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from tasks.images import Pixels, Unusable
from tasks.images.apart import Prepare, prepare_apart

Item = TypeVar("Item")
Decoded = tuple[float, dict[int, Unusable]]


@dataclass(frozen=True)
class Decoder(Generic[Item]):
    """Decodes items whose bytes are at hand; for processes, `prepare` can be pickled."""

    prepare: Prepare
    bytes_of: Callable[[Item], bytes]
    take: Callable[[Item, Any], None]
    """Gets an item, and what `prepare` has returned beside the pixels. Threads call it."""
    in_processes: bool = False

    def decode(self, items: Sequence[Item], places_NSSC: Pixels) -> Decoded:
        """Write the pixels of these items to their places. Unusable ones leave theirs alone."""
        if not self.in_processes:
            return decode_each(self._decode_one, items, places_NSSC)
        images = [self.bytes_of(item) for item in items]
        seconds, answers = prepare_apart(self._pickled, images, places_NSSC)
        problems = {}
        for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
            if isinstance(answer, Unusable):
                problems[place] = answer
            else:
                self.take(item, answer)
        return seconds, problems

    def _decode_one(self, item: Item) -> Pixels:
        pixels_SSC, other = self.prepare(self.bytes_of(item))
        self.take(item, other)
        return pixels_SSC

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps(self.prepare)


def decode_each(
    decode: Callable[[Item], Pixels], items: Sequence[Item], places_NSSC: Pixels
) -> Decoded:
    """The same by a function of one item, in this thread."""
    began, problems = time.thread_time(), {}
    for place, item in enumerate(items):
        try:
            places_NSSC[place] = decode(item)
        except Unusable as unusable:
            problems[place] = unusable
    return time.thread_time() - began, problems
