"""Thumbnail: a small picture as a data URI, for pages that need no other file.

small = thumbnail(data)       # small.uri == "data:image/webp;base64,...", 160 x 107 pixels
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tasks.images.colours import Pixels
from tasks.images.decode import decode
from tasks.images.unusable import Limits

SIDE = 160  # pixels of the longer side: enough to see what it shows, at some kilobytes
TINY_SIDE = 48  # up to here every pixel is seen by itself, so none may be changed
WEBP_QUALITY = 70


@dataclass(frozen=True)
class Thumbnail:
    """A whole picture, made smaller: its data URI, and its own size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def is_tiny(self) -> bool:
        """Whether its pixels are to be seen when it is enlarged."""
        return max(self.width, self.height) < TINY_SIDE


def thumbnail(data: bytes) -> Thumbnail:
    """The picture in whichever format is smaller. Raises Unusable when it cannot be decoded."""
    return thumbnail_of(decode(data, Limits()))


def thumbnail_of(pixels_HWC: Pixels) -> Thumbnail:
    """The same of pixels, (H, W, 3)."""
    image = Image.fromarray(_without_equal_channels(_reduced(pixels_HWC)))
    forms = [_encoded(image, "png", optimize=True)]
    if max(image.size) >= TINY_SIDE:
        forms.append(_encoded(image, "webp", quality=WEBP_QUALITY))
    return Thumbnail(min(forms, key=len), *image.size)


def _reduced(pixels_HWC: Pixels) -> Pixels:
    """The longer side at most `SIDE`; small pictures stay as they are."""
    height, width = pixels_HWC.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _encoded(image: Image.Image, kind: str, **how: int) -> str:
    sink = io.BytesIO()
    image.save(sink, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(sink.getvalue()).decode()}"


def _without_equal_channels(pixels_HWC: Pixels) -> Pixels:
    """One channel where the three are equal: a third of the bytes."""
    first_HW1 = pixels_HWC[:, :, :1]
    return pixels_HWC[:, :, 0] if (pixels_HWC == first_HW1).all() else pixels_HWC
