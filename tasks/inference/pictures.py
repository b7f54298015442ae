"""Pictures: what a person has for an image, as pixels.

In: the address of a file, the bytes of one, or a PIL image. Out: upright RGB pixels, decoded as
those of the images that were trained on.

    pixels_HWC = read_picture("cat.jpg")
"""

import io
from pathlib import Path

from PIL import Image, ImageOps

from infra.store import split_uri
from tasks.images import Limits, Pixels, Unusable, decode

Picture = str | Path | bytes | Image.Image

PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def read_picture(picture: Picture) -> Pixels:
    """Upright RGB pixels (height, width, 3). Raises Unusable."""
    if isinstance(picture, bytes):
        return decode(picture, Limits())
    if isinstance(picture, Image.Image):
        return decode(_to_png(picture), Limits())
    store, name = split_uri(str(picture))
    try:
        return decode(store.read(name), Limits())
    except OSError as error:
        raise Unusable("unreadable", str(error)) from error


def describe_picture(picture: Picture, row: int) -> str:
    """The name of a picture for an error: its address, or its place among the others."""
    return str(picture) if isinstance(picture, str | Path) else f"image {row}"


def _to_png(image: Image.Image) -> bytes:
    """The bytes of a PIL image: transparency and 16 bits are then treated as those of files are."""
    image = ImageOps.exif_transpose(image)
    if image.mode not in PNG_MODES:
        image = image.convert("RGB")
    sink = io.BytesIO()
    image.save(sink, format="PNG", compress_level=0)
    return sink.getvalue()
