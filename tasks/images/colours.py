"""Colours: from the pixels of a file, in whichever mode, to upright RGB.

In: a Pillow image. Out: 8-bit RGB, transparent pixels on white, the top above.

    pixels_HWC = upright(to_rgb(image), orientation(image))
"""

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from tasks.images import png
from tasks.images.unusable import Unusable

Pixels = npt.NDArray[np.uint8]

PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def to_rgb(image: ImageFile.ImageFile) -> Pixels:
    """RGB pixels of an image that has not been loaded. Raises Unusable."""
    clear_HW = png.clear_samples(image) if image.format == "PNG" else None
    image.load()
    if image.mode == "LAB":
        raise Unusable("unsupported", "colours in CIELAB: convert it to RGB")
    if image.mode.startswith("I") or image.mode == "F":
        pixels = np.asarray(_to_8_bits(image).convert("RGB"))
    else:
        pixels = np.asarray(_over_white(image))
    return pixels if clear_HW is None else np.where(clear_HW[..., None], np.uint8(255), pixels)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode in PREMULTIPLIED:
        image = image.convert(PREMULTIPLIED[image.mode])
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        image = Image.new("RGB", layers.size, "white")
        image.paste(layers, mask=layers)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey by its upper byte: Pillow's own conversion clips at 255, to almost all white."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
        grey = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
        if image.mode in {"I", "F"} or bits != (16,) or grey != 1:
            raise Unusable("unsupported", f"TIFF pixels of {bits} bits have no agreed range")
    elif image.mode == "F":
        raise Unusable("unsupported", "floating-point pixels have no agreed range")
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))


def orientation(image: Image.Image) -> int:
    """EXIF orientation, read after the pixels: Pillow turns TIFFs upright while it loads them."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken note beside sound pixels
        return 1
    return found if isinstance(found, int) else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the EXIF orientation, 1 to 8."""
    if orientation in {2, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {4, 5}:
        pixels = pixels[::-1]
    if orientation == 3:
        pixels = pixels[::-1, ::-1]
    if orientation in {5, 6, 7}:
        pixels = np.rot90(pixels, k=-1)
    if orientation == 8:
        pixels = np.rot90(pixels, k=1)
    return pixels
