"""Thumbnail: a small picture as a data URI, for pages that need no other file.

uri, side = thumbnail(data)       # "data:image/jpeg;base64,...", 72
"""

import base64
import io

from PIL import Image

from tasks.images.colours import Pixels
from tasks.images.decode import decode
from tasks.images.transform import square
from tasks.images.unusable import Limits

SIDE = 72  # pixels; pages show thumbnails at no more than this
JPEG_QUALITY = 80


def thumbnail(data: bytes) -> tuple[str, int]:
    """(data URI, side in pixels): the central square, in whichever format is smaller.

    Raises Unusable when the image cannot be decoded.
    """
    pixels_HWC = decode(data, Limits())
    side = min(SIDE, *pixels_HWC.shape[:2])
    image = Image.fromarray(_without_equal_channels(square(pixels_HWC, side, side)))
    forms = []
    for kind, settings in (("png", {"optimize": True}), ("jpeg", {"quality": JPEG_QUALITY})):
        sink = io.BytesIO()
        image.save(sink, format=kind, **settings)
        forms.append((len(sink.getvalue()), kind, sink.getvalue()))
    _, kind, small = min(forms)
    return f"data:image/{kind};base64,{base64.b64encode(small).decode()}", side


def _without_equal_channels(pixels_HWC: Pixels) -> Pixels:
    """One channel where the three are equal: a third of the bytes."""
    first_HW1 = pixels_HWC[:, :, :1]
    return pixels_HWC[:, :, 0] if (pixels_HWC == first_HW1).all() else pixels_HWC
