"""Views: what is kept of images so that crops, and brighter and darker copies, are found.

In: the features that a network has of an image, and its small picture. Out: a descriptor and a luma
picture of each image, and which of them are worth a comparison by crops.py.

A descriptor has the features, turned by a fixed random matrix of signs into 128 numbers, which
keeps the angles between images nearly as they are (Johnson and Lindenstrauss 1984). A luma picture
is 16 x 16 pixels of brightness.

    views = Views.of(descriptors_NF, lumas_NP)
    rows, columns = np.nonzero(views.similar(others))
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.duplicates.matching import GREY_WEIGHTS, SIDE_PIXELS, Flags, Positions, SmallPicture

# Goes into fingerprints: raise it when other images become crops.
CROPS_VERSION = 1

DESCRIPTOR_NUMBERS = 128
LUMA_PIXELS = 16  # of each side
LARGEST_NUMBER = 127
MIN_COSINE = 0.75

Descriptors = npt.NDArray[np.int8]
Lumas = npt.NDArray[np.uint8]


@functools.lru_cache
def signs(num_features: int) -> npt.NDArray[np.float32]:
    """The matrix of signs for so many features, shape (features, 128), always the same."""
    num_bits = num_features * DESCRIPTOR_NUMBERS
    data = hashlib.shake_128(b"descriptor").digest(-(-num_bits // 8))
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=num_bits)
    return (2 * bits.astype(np.float32) - 1).reshape(num_features, DESCRIPTOR_NUMBERS)


def descriptors_of(features_ND: npt.NDArray[np.float32]) -> Descriptors:
    """The descriptors (N, 128) of features. The largest number of each is 127 or -127."""
    # Features that are not finite belong to images that become rejects.
    finite_N1 = np.isfinite(features_ND).all(axis=1, keepdims=True)
    turned_NF = np.where(finite_N1, features_ND, 0) @ signs(features_ND.shape[1])
    largest_N1 = np.abs(turned_NF).max(axis=1, keepdims=True)
    scaled_NF = turned_NF / np.where(largest_N1 > 0, largest_N1, 1) * LARGEST_NUMBER
    descriptors_NF: Descriptors = np.rint(scaled_NF).astype(np.int8)
    return descriptors_NF


def luma_of(small_SSC: SmallPicture) -> bytes:
    """The luma picture of an image, 16 x 16 bytes, from its small picture."""
    cell = SIDE_PIXELS // LUMA_PIXELS
    cells = (small_SSC @ GREY_WEIGHTS).reshape(LUMA_PIXELS, cell, LUMA_PIXELS, cell)
    luma_LL: Lumas = np.rint(cells.mean(axis=(1, 3))).astype(np.uint8)
    return luma_LL.tobytes()


@dataclass(frozen=True)
class Views:
    """Descriptors (N, 128), their lengths, and luma pictures (N, 16, 16)."""

    descriptors_NF: Descriptors
    lengths_N: npt.NDArray[np.float32]
    lumas_NLL: Lumas

    @staticmethod
    def of(descriptors_NF: Descriptors, lumas_NP: Lumas) -> "Views":
        """From the columns, (N, 128) and (N, 256)."""
        squares_N = np.einsum("nf,nf->n", descriptors_NF, descriptors_NF, dtype=np.float32)
        lumas_NLL = lumas_NP.reshape(-1, LUMA_PIXELS, LUMA_PIXELS)
        return Views(descriptors_NF, np.sqrt(squares_N), lumas_NLL)

    def __len__(self) -> int:
        return len(self.lengths_N)

    def take(self, rows: Positions) -> "Views":
        """The views at these positions."""
        return Views(self.descriptors_NF[rows], self.lengths_N[rows], self.lumas_NLL[rows])

    def similar(self, others: "Views") -> Flags:
        """Whether the cosine of two descriptors is at least 0.75, shape (N, M).

        float32 has sums of products of bytes exactly, so that a pair is decided alike in any block.
        """
        own, other = (views.descriptors_NF.astype(np.float32) for views in (self, others))
        bounds_NM = np.float32(MIN_COSINE) * self.lengths_N[:, None] * others.lengths_N
        flags_NM: Flags = (own @ other.T >= bounds_NM) & (bounds_NM > 0)
        return flags_NM
