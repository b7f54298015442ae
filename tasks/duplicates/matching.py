"""Matching: decides whether two files show the same picture, re-encoded or resized.

In: pixels. Out: the signature of each image (a hash and a thumbnail), and which signatures belong
to near-duplicates. Hashes find the few pairs that are worth a comparison, but they are no proof: a
third of the 5,000 digits of the demo have another digit within four bits. Two images are near-
duplicates when their thumbnails agree as well.

The hash is the usual perceptual hash of 64 bits: the grey image at 32 x 32 pixels, the 8 x 8 lowest
frequencies of its discrete cosine transform, and for each whether it is above their median.
docs/topk.md has how many near-duplicates are found, and how few other images.

    phash, thumbnail = signature_of(pixels_HWC)
    for first_M, second_M in near_known(phashes_N, known_phashes_K): ...
    thumbnails = Thumbnails.of(bytes_NT)
    duplicate_M = thumbnails.take(first_M).agree(thumbnails.take(second_M))
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.images import Pixels

# Goes into fingerprints: raise it when other images become near-duplicates.
DUPLICATES_VERSION = 1

SIDE_PIXELS = 32
NUM_FREQUENCIES = 8  # the lowest ones, in each direction
THUMBNAIL_PIXELS = 8  # of each side
THUMBNAIL_BYTES = THUMBNAIL_PIXELS**2 * 3
HASH_QUARTERS, QUARTER_BITS = 4, 16
MAX_DIFFERENT_BITS = 8
HASH_PAIRS_PER_BLOCK = 1_000_000  # 8 MB
MAX_DIFFERENCE = 0.1  # root mean square, as a share of the contrast
MIN_CONTRAST = 16.0  # of 255 levels; an image with less contrast is little more than noise

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]
SmallPicture = npt.NDArray[np.float64]

_POSITIONS_S = np.arange(SIDE_PIXELS)
_FREQUENCIES_F = np.arange(NUM_FREQUENCIES)
_COSINES_FS = np.cos(np.pi * _FREQUENCIES_F[:, None] * (2 * _POSITIONS_S + 1) / (2 * SIDE_PIXELS))
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def small_picture(pixels_HWC: Pixels) -> SmallPicture:
    """The 32 x 32 pixels from which a signature is made, of RGB pixels."""
    image = Image.fromarray(pixels_HWC)
    # `reducing_gap` averages whole blocks of large images first, which saves most of the time.
    size = (SIDE_PIXELS, SIDE_PIXELS)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3), np.float64)


def signature_of(pixels_HWC: Pixels) -> tuple[int, bytes]:
    """The perceptual hash (64 bits) and the thumbnail (8 x 8 x 3 bytes) of RGB pixels."""
    return signature_of_small(small_picture(pixels_HWC))


def signature_of_small(small_SSC: SmallPicture) -> tuple[int, bytes]:
    """The same, of the small picture of an image."""
    transform_FF = _COSINES_FS @ (small_SSC @ GREY_WEIGHTS) @ _COSINES_FS.T
    # Rounded, so that noise does not decide the bits of a plain picture.
    transform_FF = np.rint(transform_FF / SIDE_PIXELS)
    bits = np.packbits(transform_FF.ravel() > np.median(transform_FF))
    side, cell = THUMBNAIL_PIXELS, SIDE_PIXELS // THUMBNAIL_PIXELS
    thumbnail = small_SSC.reshape(side, cell, side, cell, 3).mean(axis=(1, 3))
    return int(bits.view("<u8")[0]), np.rint(thumbnail).astype(np.uint8).tobytes()


# --------------------------------------------------------------------------------------- hashes


def near(first: Hashes, second: Hashes) -> Flags:
    """Whether two hashes are near: their images may be near-duplicates. Shapes are broadcast.

    At most eight bits differ, and one of the four quarters is equal, so that near hashes can be
    found by sorting. A quarter is equal whenever fewer than four bits differ.
    """
    different_bits = np.atleast_1d(first ^ second)
    hits: Flags = np.bitwise_count(different_bits) <= MAX_DIFFERENT_BITS
    if hits.any():
        quarters = [_quarter(different_bits[hits], number) for number in range(HASH_QUARTERS)]
        hits[hits] = np.any([quarter == 0 for quarter in quarters], axis=0)
    return hits


def _quarter(phashes_N: Hashes, number: int) -> npt.NDArray[np.uint16]:
    return (phashes_N >> np.uint64(QUARTER_BITS * number)).astype(np.uint16)


def near_known(
    phashes_N: Hashes, known_K: Hashes, pairs_per_block: int = HASH_PAIRS_PER_BLOCK
) -> Iterator[tuple[Positions, Positions]]:
    """Positions of hashes that are near a known one, and of that one, in pieces.

    A pair comes once for each quarter that is equal. In each bucket of equal quarters, all are
    compared with all: this takes a tenth of the time of listing the pairs first.
    """
    for number in range(HASH_QUARTERS):
        rows_N, phashes, offsets = buckets(phashes_N, number)
        rows_K, known, known_offsets = buckets(known_K, number)
        shared = np.flatnonzero((np.diff(offsets) > 0) & (np.diff(known_offsets) > 0))
        for bucket in shared.tolist():
            known_first, known_last = known_offsets[bucket], known_offsets[bucket + 1]
            step = max(1, pairs_per_block // int(known_last - known_first))
            for first in range(offsets[bucket], offsets[bucket + 1], step):
                last = min(first + step, offsets[bucket + 1])
                hits = near(phashes[first:last, None], known[None, known_first:known_last])
                if hits.any():
                    row, known_row = np.nonzero(hits)
                    yield rows_N[row + first], rows_K[known_row + known_first]


def buckets(phashes_N: Hashes, number: int) -> tuple[Positions, Hashes, Positions]:
    """Positions and hashes sorted by a quarter, and where each of its values begins and ends."""
    quarters_N = _quarter(phashes_N, number)
    order = np.argsort(quarters_N, kind="stable")
    counts = np.bincount(quarters_N, minlength=2**QUARTER_BITS)
    return order, phashes_N[order], np.append(0, np.cumsum(counts))


# ----------------------------------------------------------------------------------- thumbnails


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails as float32, with the terms that every comparison needs.

    Sums of squares and of products of pixels are whole numbers below 2^24, so they are exact, and a
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
        """The thumbnails at these positions."""
        return Thumbnails(self.pixels_NT[rows], self.squares_N[rows], self.contrast_N[rows])

    def agree(self, others: "Thumbnails") -> Flags:
        """Whether each thumbnail agrees with the other one at its position, shape (N,)."""
        products_N = np.einsum("nt,nt->n", self.pixels_NT, others.pixels_NT)
        squares_N = self.squares_N + others.squares_N - 2 * products_N.astype(np.float64)
        return _agree(squares_N, self.contrast_N * others.contrast_N)

    def all_agree(self, others: "Thumbnails") -> Flags:
        """Whether each thumbnail agrees with each of the others, shape (N, M)."""
        products_NM = (self.pixels_NT @ others.pixels_NT.T).astype(np.float64)
        squares_NM = self.squares_N[:, None] + others.squares_N - 2 * products_NM
        return _agree(squares_NM, self.contrast_N[:, None] * others.contrast_N)


def _agree(squares: npt.NDArray[np.float64], contrasts: npt.NDArray[np.float64]) -> Flags:
    """Whether the root mean square of a difference is at most a tenth of the contrast.

    `squares` are sums of squared differences, and `contrasts` products of both standard deviations.
    The contrast is the geometric mean of the two, and at least 16 levels.
    """
    bounds = MAX_DIFFERENCE**2 * np.maximum(contrasts, MIN_CONTRAST**2)
    agree: Flags = squares / THUMBNAIL_BYTES <= bounds
    return agree
