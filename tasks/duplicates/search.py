"""Search: which of many million hashes are near another one, by loops that numba compiles.

In: hashes, and what they are compared with. Out: a flag for each. Hashes that are near have an
equal quarter (matching.py), so that each is compared with those in its bucket of each quarter.

    known = KnownHashes.of(phashes_K)
    flags_N = known.near(phashes_N) | near_in_class(labels_N, phashes_N)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.compiled import compiled
from tasks.duplicates.matching import (
    HASH_QUARTERS,
    MAX_DIFFERENT_BITS,
    QUARTER_BITS,
    Flags,
    Hashes,
    buckets,
)

NUM_BUCKETS = 1 << QUARTER_BITS
NOBODY = -1
ROWS_AT_A_TIME, LINES_FETCHED, HASHES_PER_LINE = 64, 4, 8
# What adds the bits of a number in pairs, in fours and in eights, all of these at once.
PAIRS, FOURS, EIGHTS, SUM = (
    np.uint64(mask)
    for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)
ONE, TWO, FOUR, TOP_BYTE = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
MOST, ALL_BITS, LOWEST = np.uint64(MAX_DIFFERENT_BITS), np.uint64(64), np.uint64(0xFFFF)


@dataclass(frozen=True)
class KnownHashes:
    """Hashes by each of their quarters, and where each bucket begins."""

    phashes_QK: npt.NDArray[np.uint64]
    offsets_QB: npt.NDArray[np.int64]

    @staticmethod
    def of(phashes_K: Hashes) -> "KnownHashes":
        """The index of these hashes."""
        sorted_quarters = [buckets(phashes_K, number) for number in range(HASH_QUARTERS)]
        phashes = np.stack([phashes for _, phashes, _ in sorted_quarters])
        return KnownHashes(phashes, np.stack([offsets for *_, offsets in sorted_quarters]))

    def near(self, phashes_N: Hashes) -> Flags:
        """Which hashes are near one of these, shape (N,)."""
        flags_N = np.zeros(len(phashes_N), bool)
        for number in range(HASH_QUARTERS):
            shift = np.uint64(number * QUARTER_BITS)
            known_K, offsets_B = self.phashes_QK[number], self.offsets_QB[number]
            if len(known_K):
                _flag_near_known(phashes_N, known_K, offsets_B, shift, flags_N)
        return flags_N


def near_in_class(labels_N: npt.NDArray[np.uint16], phashes_N: Hashes) -> Flags:
    """Which hashes are near another one of their class, shape (N,). Labels are sorted."""
    flags_N = np.zeros(len(phashes_N), bool)
    edges = np.flatnonzero(np.diff(labels_N.astype(np.int32), prepend=-1, append=-1))
    for number in range(HASH_QUARTERS):
        _flag_near_in_class(edges, phashes_N, np.uint64(number * QUARTER_BITS), flags_N)
    return flags_N


@compiled
def _different_bits(first: np.uint64, second: np.uint64) -> np.uint64:
    bits = first ^ second
    bits -= (bits >> ONE) & PAIRS
    bits = (bits & FOURS) + ((bits >> TWO) & FOURS)
    bits = (bits + (bits >> FOUR)) & EIGHTS
    return (bits * SUM) >> TOP_BYTE


@compiled
def _flag_near_known(
    phashes_N: Hashes,
    known_K: Hashes,
    offsets_B: npt.NDArray[np.int64],
    shift: np.uint64,
    flags_N: Flags,
) -> np.uint64:
    """What is returned has no meaning, but without it nothing would be fetched."""
    touched, last = np.uint64(0), len(known_K) - 1
    for first in range(0, len(phashes_N), ROWS_AT_A_TIME):
        rows = range(first, min(first + ROWS_AT_A_TIME, len(phashes_N)))
        # The buckets of some rows are fetched at the same time, without waiting for one another.
        for row in rows:
            begin = offsets_B[np.int64((phashes_N[row] >> shift) & LOWEST)]
            for line in range(LINES_FETCHED):
                touched ^= known_K[min(begin + line * HASHES_PER_LINE, last)]
        for row in rows:
            bucket = np.int64((phashes_N[row] >> shift) & LOWEST)
            fewest = ALL_BITS
            # Without a condition to leave it, the processor compares several at a time.
            for known in range(offsets_B[bucket], offsets_B[bucket + 1]):
                fewest = min(fewest, _different_bits(phashes_N[row], known_K[known]))
            if fewest <= MOST:
                flags_N[row] = True
    return touched


@compiled
def _flag_near_in_class(
    edges: npt.NDArray[np.int64], phashes_N: Hashes, shift: np.uint64, flags_N: Flags
) -> None:
    """`edges` are where the classes begin, and the end of the last."""
    last_of_bucket = np.full(NUM_BUCKETS, NOBODY, np.int64)
    one_before = np.empty(len(phashes_N), np.int64)
    for place in range(len(edges) - 1):
        for row in range(edges[place], edges[place + 1]):
            bucket = np.int64((phashes_N[row] >> shift) & LOWEST)
            is_new = True
            other = last_of_bucket[bucket]
            while other != NOBODY:
                difference = _different_bits(phashes_N[row], phashes_N[other])
                if difference <= MOST:
                    flags_N[row] = flags_N[other] = True
                # Of equal hashes, only the first is compared with others: there may be a flood.
                if difference == 0:
                    is_new = False
                    break
                other = one_before[other]
            if is_new:
                one_before[row] = last_of_bucket[bucket]
                last_of_bucket[bucket] = row
        for row in range(edges[place], edges[place + 1]):
            last_of_bucket[np.int64((phashes_N[row] >> shift) & LOWEST)] = NOBODY
