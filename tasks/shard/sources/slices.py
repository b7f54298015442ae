"""Slices: a share of a source by the hashes of its keys. No image moves when others come."""

import hashlib
from dataclasses import dataclass

HASH_BYTES = 6  # exact in a float, and below 100 percent when scaled


def percent_of(key: str) -> float:
    """Where a key hashes to in [0, 100): evenly, and the same on any machine, for ever."""
    digest = hashlib.blake2b(key.encode(), digest_size=HASH_BYTES, person=b"protege slice").digest()
    return int.from_bytes(digest, "big") / 2.0 ** (8 * HASH_BYTES) * 100


@dataclass(frozen=True)
class Slice:
    """The images whose keys hash into [start, end) percent. No image moves when others come."""

    start: float = 0.0
    end: float = 100.0

    @property
    def is_whole(self) -> bool:
        """Whether it has every image, so that none need be hashed."""
        return self.start <= 0 and self.end >= 100

    def __contains__(self, key: str) -> bool:
        return self.is_whole or self.start <= percent_of(key) < self.end

    def __str__(self) -> str:
        return f"the slice from {self.start:g} to {self.end:g} percent"


WHOLE = Slice()
