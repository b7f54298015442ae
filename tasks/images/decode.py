"""Images: encoded bytes in, upright RGB pixels out; the only decoder in protege.

Teacher and student must see the same pixels, so every stage decodes here. JPEGs go through
simplejpeg (strict: a damaged file is an error, not a grey half), everything else through Pillow.

    pixels_HWC = decode(data, Limits())          # uint8 RGB
    pixels_SSC = square(pixels_HWC, size=224, resize=256)

What cannot be used raises `Unusable` with a reason from `REASONS`.
"""

import io
import warnings
from dataclasses import replace

import numpy as np
from PIL import Image, TiffImagePlugin

from infra.careful import is_careful
from tasks.images import colours
from tasks.images.apart import decode_apart
from tasks.images.colours import Pixels
from tasks.images.jpeg import decode_jpeg, whole
from tasks.images.opening import open_picture
from tasks.images.scaled import TURNED, Scaled, ScaleOf
from tasks.images.unusable import Limits, Unusable

IMAGES_VERSION = 3  # goes into fingerprints; raise it when the same bytes give other pixels

# The header says how large an image claims to be; `Limits` decides, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

# Pillow warns of odd metadata; what matters here is whether pixels come out. Not done around each
# call: `catch_warnings` is not safe among threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def check(data: bytes, limits: Limits) -> None:
    """Look at the header only. Raises Unusable."""
    open_picture(data, limits, whole=False)


def decode(data: bytes, limits: Limits) -> Pixels:
    """Upright RGB pixels (height, width, 3) of the first frame. Raises Unusable.

    EXIF orientation is applied; transparent pixels lie on white; 16-bit and CMYK are converted.
    """
    return decode_scaled(data, limits, whole).pixels_HWC


def decode_scaled(data: bytes, limits: Limits, scale_of: ScaleOf) -> Scaled:
    """The same, and of a JPEG 1/1, 1/2, 1/4 or 1/8 of it, as `scale_of` its upright size says.

    Damage is found at every scale: all of the file is read. Raises Unusable.
    """
    if is_careful():
        decode_apart(data, limits)
    image = open_picture(data, limits, whole=True)
    try:
        if image.format == "JPEG":
            return _decode_jpeg(data, image, limits, scale_of)
        _check_whole(image)
        # In this order: Pillow turns TIFFs upright while it loads them.
        pixels_HWC = colours.to_rgb(image)
        upright_HWC = np.ascontiguousarray(colours.upright(pixels_HWC, colours.orientation(image)))
    except Unusable:
        raise
    except Exception as error:  # whatever a decoder makes of hostile bytes, it is the bytes' fault
        raise Unusable("damaged", str(error) or type(error).__name__) from error
    height, width = upright_HWC.shape[:2]
    return Scaled(upright_HWC, width, height)


def encode_png(pixels_HWC: Pixels) -> bytes:
    """PNG bytes of RGB or grey pixels."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, format="PNG")
    return sink.getvalue()


def _decode_jpeg(data: bytes, image: Image.Image, limits: Limits, scale_of: ScaleOf) -> Scaled:
    """A JPEG, strictly; CMYK and YCCK are converted as Pillow does it."""
    orientation, is_cmyk = colours.orientation(image), image.mode == "CMYK"

    def scale_of_file(width: int, height: int) -> int:
        size = (height, width) if orientation in TURNED else (width, height)
        return scale_of(*size)

    scaled = decode_jpeg(data, "CMYK" if is_cmyk else "RGB", limits, scale_of_file)
    if is_cmyk:
        inks = Image.fromarray(255 - scaled.pixels_HWC, mode="CMYK")
        scaled = replace(scaled, pixels_HWC=np.asarray(inks.convert("RGB")))
    return scaled.upright(orientation)


def _check_whole(image: Image.Image) -> None:
    """Strips missing in a TIFF, which Pillow would leave black."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        boxes = [tile.extents for tile in image.tile if tile.extents]
        covered = sum((right - left) * (low - top) for left, top, right, low in boxes)
        if covered < image.width * image.height:
            raise Unusable("damaged", f"pixels for {covered} of {image.width * image.height}")
