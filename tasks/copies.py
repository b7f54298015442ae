"""Copies: by what two files are told to hold one picture, stored anew or scaled.

In: pixels. Out: a sketch of each image, a hash and a thumbnail, and of sketches which are copies of
one another. The hash finds few candidates among many, but is no proof: of the 5,000 digits of the
demo, a third has another one within four bits. A hit counts when the thumbnails agree as well.

The hash is the usual one of 64 bits: of the grey image at 32 x 32, the signs of the 8 x 8 lowest
frequencies of its discrete cosine transform, as against their median. docs/topk.md tells how many
copies are found, and how few others.

    phash, thumbnail = sketch(pixels_HWC)
    first_M, second_M = near_pairs(groups_N, phashes_N)
    copies_M = alike(thumbnails_NT[first_M], thumbnails_NT[second_M])
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.images import Pixels

SIDE = 32
LOW = 8
THUMBNAIL = 8 * 8 * 3  # bytes
QUARTERS, QUARTER_BITS = 4, 16
NEAR_BITS = 8
PAIRS_AT_ONCE = 1_000_000
ALIKE = 0.1  # of the contrast
LEAST_CONTRAST = 16.0  # levels of 255; with less, noise is all that there is

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.intp]

_STEPS = np.arange(SIDE)
_COSINES_LS = np.cos(np.pi * np.arange(LOW)[:, None] * (2 * _STEPS + 1) / (2 * SIDE))
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def sketch(pixels_HWC: Pixels) -> tuple[int, bytes]:
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


def near(first: Hashes, second: Hashes) -> npt.NDArray[np.bool_]:
    """Whether hashes are so alike that a closer look is worth it; any shapes that fit together.

    At most eight bits differ, and one of the four quarters is the same: by that, near ones can be
    found among many. It is so wherever fewer than four bits differ.
    """
    differ = np.asarray(first ^ second)
    hits = np.bitwise_count(differ) <= NEAR_BITS
    if hits.any():
        few = differ[hits]
        hits[hits] = np.any([quarter(few, number) == 0 for number in range(QUARTERS)], axis=0)
    found: npt.NDArray[np.bool_] = hits
    return found


def quarter(phashes_N: Hashes, number: int) -> npt.NDArray[np.uint16]:
    """One of the four quarters of each hash."""
    return (phashes_N >> np.uint64(QUARTER_BITS * number)).astype(np.uint16)


def near_pairs(
    groups_N: npt.NDArray[np.uint16], phashes_N: Hashes
) -> Iterator[tuple[Positions, Positions]]:
    """Positions of all that are near one another within a group, the lower one first.

    They come in pieces, and a pair comes once for each quarter in which it agrees.
    """
    for number in range(QUARTERS):
        keys_N = quarter(phashes_N, number)
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
            keys = quarter(phashes, number)
            order = np.argsort(keys, kind="stable")
            sides.append((order, phashes[order], np.searchsorted(keys[order], edges)))
        (rows, mine, starts), (others, theirs, places) = sides
        both = np.flatnonzero((np.diff(starts) > 0) & (np.diff(places) > 0))
        for key in both.tolist():
            place, end = places[key], places[key + 1]
            step = max(1, PAIRS_AT_ONCE // int(end - place))
            for first in range(starts[key], starts[key + 1], step):
                last = min(first + step, starts[key + 1])
                hits = near(mine[first:last, None], theirs[None, place:end])
                if hits.any():
                    row, other = np.nonzero(hits)
                    yield rows[row + first], others[other + place]


def alike(first_MT: Thumbnails, second_MT: Thumbnails) -> npt.NDArray[np.bool_]:
    """Whether thumbnails differ by less than a tenth of their contrast (root mean square)."""
    first, second = first_MT.astype(np.float32), second_MT.astype(np.float32)
    contrast_M = np.sqrt(first.std(axis=1) * second.std(axis=1))
    difference_M = np.sqrt(np.square(first - second).mean(axis=1))
    close_M: npt.NDArray[np.bool_] = difference_M <= ALIKE * np.maximum(contrast_M, LEAST_CONTRAST)
    return close_M
