"""Prepare: what is made of an image before the network sees it, also in a process without torch.

In: the bytes of an image. Out: the network's input, and its signature, which comes from the same
pixels. Raises Unusable.

    pixels_SSC, signature = prepare_image(data, Inputs(), with_luma=False)
"""

from dataclasses import dataclass

from tasks.duplicates.matching import signature_of_small, small_picture
from tasks.duplicates.views import luma_of
from tasks.images import Inputs, Limits, Pixels, decode


@dataclass(frozen=True)
class Signature:
    """What shows near-duplicates of an image and, where it is wanted, crops."""

    phash: int
    thumbnail: bytes
    luma: bytes


def prepare_image(data: bytes, inputs: Inputs, with_luma: bool) -> tuple[Pixels, Signature]:
    """The network's input of an image, (S, S, 3), and its signature."""
    pixels_HWC = decode(data, Limits())
    small_SSC = small_picture(pixels_HWC)
    phash, thumbnail = signature_of_small(small_SSC)
    luma = luma_of(small_SSC) if with_luma else b""
    return inputs.square(pixels_HWC), Signature(phash, thumbnail, luma)
