"""Matching: decides whether two files show the same picture, re-encoded or resized.

In: pixels. Out: the signature of each image (a hash and a thumbnail), and which signatures belong
to near-duplicates. The hash finds few candidates among many, but is no proof: of the 5,000 digits
of the demo, a third has another one within four bits. A hit counts when the thumbnails agree as
well.
The hash is the usual one of 64 bits: of the grey image at 32 x 32, the signs of the 8 x 8 lowest
frequencies of its discrete cosine transform, as against their median. docs/topk.md tells how many
copies are found, and how few others.

    phash, thumbnail = signature_of(pixels_HWC)
    first_M, second_M = near_pairs(groups_N, phashes_N)
    thumbnails = Thumbnails.of(bytes_NT)
    copies_M = thumbnails.take(first_M).alike(thumbnails.take(second_M))
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.images import Pixels

DUPLICATES_VERSION = 1  # goes into fingerprints; raise it when other images are near-duplicates

SIDE = 32
LOW = 8
THUMBNAIL_BYTES = 8 * 8 * 3  # bytes
QUARTERS, QUARTER_BITS = 4, 16
NEAR_BITS = 8
COMPARED = 1_000_000  # hashes at a time, 8 MB
ALIKE = 0.1  # of the contrast
LEAST_CONTRAST = 16.0  # levels of 255; with less, noise is all that there is

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]

_STEPS = np.arange(SIDE)
_COSINES_LS = np.cos(np.pi * np.arange(LOW)[:, None] * (2 * _STEPS + 1) / (2 * SIDE))
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def signature_of(pixels_HWC: Pixels) -> tuple[int, bytes]:
    """The perceptual hash (64 bits) and the thumbnail (8 x 8 x 3 bytes) of RGB pixels."""
    image = Image.fromarray(pixels_HWC)
    # Large images are first reduced by a whole factor, which takes a fraction of the time.
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    small_SSC = np.asarray(small, np.float64)
    low_LL = _COSINES_LS @ (small_SSC @ _GREY) @ _COSINES_LS.T
    # Rounded, for the noise of an even picture shall not decide.
    low_LL = np.rint(low_LL / SIDE)
    bits = np.packbits(low_LL.ravel() > np.median(low_LL))
    cells = small_SSC.reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3))
    return int(bits.view("<u8")[0]), np.rint(cells).astype(np.uint8).tobytes()


# --------------------------------------------------------------------------------------- hashes


def near(first: Hashes, second: Hashes) -> Flags:
    """Whether hashes are so alike that a closer look is worth it; shapes are broadcast.

    At most eight bits differ, and one of the four quarters is the same: by that, near ones can be
    found among many. A quarter is the same wherever fewer than four bits differ.
    """
    differ = np.atleast_1d(first ^ second)
    hits: Flags = np.bitwise_count(differ) <= NEAR_BITS
    if hits.any():
        few = differ[hits]
        hits[hits] = np.any([_quarter(few, number) == 0 for number in range(QUARTERS)], axis=0)
    return hits


def _quarter(phashes_N: Hashes, number: int) -> npt.NDArray[np.uint16]:
    return (phashes_N >> np.uint64(QUARTER_BITS * number)).astype(np.uint16)


def near_pairs(
    groups_N: npt.NDArray[np.uint16], phashes_N: Hashes
) -> Iterator[tuple[Positions, Positions]]:
    """Positions of all that are near one another within a group, the lower one first.

    They come in pieces, and a pair comes once for each quarter in which it agrees.
    """
    for number in range(QUARTERS):
        keys_N = _quarter(phashes_N, number)
        order = np.argsort(keys_N, kind="stable")
        order = order[np.argsort(groups_N[order], kind="stable")]
        keys = groups_N[order].astype(np.uint32) << np.uint32(QUARTER_BITS) | keys_N[order]
        at = np.arange(len(keys))
        for apart in range(1, len(keys)):
            at = at[: np.searchsorted(at, len(keys) - apart)]
            at = at[keys[at] == keys[at + apart]]
            if not len(at):
                break
            first, second = order[at], order[at + apart]
            hits = near(phashes_N[first], phashes_N[second])
            yield first[hits], second[hits]


def near_known(phashes_N: Hashes, known_K: Hashes) -> Iterator[tuple[Positions, Positions]]:
    """Positions of those that are near to a known one, and of that one, as `near_pairs` has them.

    Bucket by bucket, all against all: that takes a tenth of the time of listing the pairs first.
    """
    edges = np.arange(2**QUARTER_BITS + 1)
    for number in range(QUARTERS):
        sides = []
        for phashes in (phashes_N, known_K):
            keys = _quarter(phashes, number)
            order = np.argsort(keys, kind="stable")
            bounds = np.append(0, np.cumsum(np.bincount(keys, minlength=len(edges) - 1)))
            sides.append((order, phashes[order], bounds))
        (rows, mine, starts), (others, theirs, places) = sides
        both = np.flatnonzero((np.diff(starts) > 0) & (np.diff(places) > 0))
        for key in both.tolist():
            place, end = places[key], places[key + 1]
            step = max(1, COMPARED // int(end - place))
            for first in range(starts[key], starts[key + 1], step):
                last = min(first + step, starts[key + 1])
                hits = near(mine[first:last, None], theirs[None, place:end])
                if hits.any():
                    row, other = np.nonzero(hits)
                    yield rows[row + first], others[other + place]


# ----------------------------------------------------------------------------------- thumbnails


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails as float32, with what is asked of each in every comparison.

    Pixels, their squares and products are whole numbers below 2^24, so all sums are exact, and a
    comparison has the same result however it is computed.
    """

    pixels_NT: npt.NDArray[np.float32]
    squares_N: npt.NDArray[np.float64]
    contrast_N: npt.NDArray[np.float64]

    @staticmethod
    def of(bytes_NT: npt.NDArray[np.uint8]) -> "Thumbnails":
        """From the pixels as bytes, (N, 192)."""
        pixels_NT = bytes_NT.astype(np.float32)
        squares_N = np.einsum("nt,nt->n", pixels_NT, pixels_NT).astype(np.float64)
        means_N = pixels_NT.sum(axis=1).astype(np.float64) / THUMBNAIL_BYTES
        contrast_N = np.sqrt(np.maximum(squares_N / THUMBNAIL_BYTES - means_N**2, 0))
        return Thumbnails(pixels_NT, squares_N, contrast_N)

    def take(self, rows: Positions) -> "Thumbnails":
        """Some of them."""
        return Thumbnails(self.pixels_NT[rows], self.squares_N[rows], self.contrast_N[rows])

    def alike(self, others: "Thumbnails") -> Flags:
        """Whether each one and the other in its place are copies, shape (N,)."""
        products_N = np.einsum("nt,nt->n", self.pixels_NT, others.pixels_NT)
        squares_N = self.squares_N + others.squares_N - 2 * products_N.astype(np.float64)
        return _close(squares_N, self.contrast_N * others.contrast_N)

    def all_alike(self, others: "Thumbnails") -> Flags:
        """Whether each one and each other one are copies, shape (N, M)."""
        products_NM = (self.pixels_NT @ others.pixels_NT.T).astype(np.float64)
        squares_NM = self.squares_N[:, None] + others.squares_N - 2 * products_NM
        return _close(squares_NM, self.contrast_N[:, None] * others.contrast_N)


def _close(squares: npt.NDArray[np.float64], contrasts: npt.NDArray[np.float64]) -> Flags:
    """Whether the root mean square of a difference is at most a tenth of the contrast.

    That is the geometric mean of both standard deviations, and at least 16 levels.
    """
    least = np.maximum(contrasts, LEAST_CONTRAST**2)
    close: Flags = squares / THUMBNAIL_BYTES <= ALIKE**2 * least
    return close
