"""Reference: the pixels that Pillow makes of an image; those of `decode` are the same, bit by bit.

In: encoded bytes. Out: 8-bit RGB of the first frame: turned upright, transparent pixels on white,
16-bit grey by its upper byte. Where Pillow compares the transparent colour of a PNG in another
depth than the file's, the file's counts.

    assert np.array_equal(decode(data, Limits()), pillow_pixels(data))
"""

import io

import numpy as np
from PIL import Image, ImageOps

from tasks.images import Pixels


def pillow_pixels(data: bytes) -> Pixels:
    """Raises whatever Pillow raises."""
    image = Image.open(io.BytesIO(data))
    is_clear = _clear_grey(image)
    image.load()
    turned: Image.Image = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):
        grey = np.clip(np.asarray(turned), 0, 65535) >> 8
        pixels = np.stack([grey.astype(np.uint8)] * 3, axis=2)
    else:
        pixels = np.asarray(_over_white(turned))
    if is_clear is None:
        return pixels
    mask = ImageOps.exif_transpose(Image.fromarray(is_clear(np.asarray(image))))
    return np.where(np.asarray(mask)[..., None], np.uint8(255), pixels)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    layers = image.convert("RGBA")
    paper = white.convert("RGB")
    paper.paste(layers, mask=layers)
    return paper


def _clear_grey(image: Image.Image):  # type: ignore[no-untyped-def]
    """How to see which samples of a grey PNG are its transparent colour, if it has one."""
    if image.format != "PNG" or image.mode not in {"L", "I;16"}:
        return None
    clear = image.info.pop("transparency", None)
    raw_mode = image.tile[0].args  # type: ignore[attr-defined]  # of images from files
    steps = {"L;2": 85, "L;4": 17}.get(raw_mode, 1)
    levels = {"L;2": 4, "L;4": 16, "L": 256}.get(raw_mode, 65536)
    return None if clear is None else lambda samples: samples == clear % levels * steps
