"""Images: encoded bytes in, upright RGB pixels out; the only decoder in protege.

Teacher and student must see the same pixels, so every stage decodes here. JPEGs go through
simplejpeg (strict: a damaged file is an error, not a grey half), everything else through Pillow.

    pixels_HWC = decode(data, Limits())          # uint8 RGB
    pixels_SSC = square(pixels_HWC, size=224, resize=256)

What cannot be used raises `Unusable` with a reason from `REASONS`.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

Reason = Literal[
    "unreadable", "empty", "not_an_image", "too_many_pixels", "damaged", "unsupported", "not_finite"
]

REASONS: tuple[str, ...] = get_args(Reason)

Pixels = npt.NDArray[np.uint8]

IMAGES_VERSION = 1  # goes into fingerprints; raise it when the same bytes give other pixels

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")

JPEG_FORMATS = {"JPEG", "MPO"}  # MPO is what many phones write: a JPEG with more JPEGs behind it

MAX_SCANS = 100  # a progressive JPEG has about ten; each more costs a pass over all pixels

# How the files of FORMATS begin: such a file is an image, if perhaps a damaged one.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")

# The header says how large an image claims to be; `Limits` decides, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

# Pillow warns of odd metadata; what matters here is whether pixels come out. Not done around each
# call: `catch_warnings` is not safe among threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Limits:
    """What is refused by its header, before it is decoded.

    The default is the most that the options of `shard` admit: it decides, later stages follow.
    """

    max_pixels: int = 1_000_000_000


class Unusable(Exception):
    """An image that cannot be used, with the reason for the table of rejects."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason: Reason = reason
        self.detail = " ".join(detail.split())[:200]
        super().__init__(reason, self.detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def check(data: bytes, limits: Limits) -> None:
    """Look at the header only. Raises Unusable."""
    _open(data, limits)


def decode(data: bytes, limits: Limits) -> Pixels:
    """Upright RGB pixels (height, width, 3) of the first frame. Raises Unusable.

    EXIF orientation is applied; transparent pixels lie on white; 16-bit and CMYK are converted.
    """
    image = _open(data, limits)
    try:
        if image.format in JPEG_FORMATS:
            pixels = _decode_jpeg(data, image)
        else:
            _check_whole(data, image)
            pixels = np.asarray(_to_rgb(image))
    except Unusable:
        raise
    except Exception as error:  # whatever a decoder makes of hostile bytes, it is the bytes' fault
        raise Unusable("damaged", str(error) or type(error).__name__) from error
    return np.ascontiguousarray(_upright(pixels, _orientation(image)))


def encode_png(pixels_HWC: Pixels) -> bytes:
    """PNG bytes of RGB or grey pixels."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, format="PNG")
    return sink.getvalue()


def _open(data: bytes, limits: Limits) -> Image.Image:
    if not data:
        raise Unusable("empty", "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # the format plugins raise whatever they stumble over
        raise _unopened(data, error) from error
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise Unusable("too_many_pixels", f"{image.width} x {image.height} by its header")
    if pixels == 0:
        raise Unusable("damaged", f"{image.width} x {image.height} by its header")
    return image


def _unopened(data: bytes, error: Exception) -> Unusable:
    if not data.startswith(MAGIC) and data[4:8] != b"ftyp":
        return Unusable("not_an_image", f"begins with {data[:12]!r}")
    # "cannot identify image file <BytesIO ...>" helps nobody.
    reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
    return Unusable("damaged", f"its header cannot be read{reason}")


def _decode_jpeg(data: bytes, image: Image.Image) -> Pixels:
    """RGB pixels of a JPEG, strictly; CMYK and YCCK are converted as Pillow does it."""
    if data.count(b"\xff\xda") > MAX_SCANS:
        raise Unusable("unsupported", f"a JPEG of more than {MAX_SCANS} scans")
    if image.mode != "CMYK":
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True))
    inverted = simplejpeg.decode_jpeg(data, colorspace="CMYK", strict=True)
    return np.asarray(Image.fromarray(255 - inverted, mode="CMYK").convert("RGB"))


def _check_whole(data: bytes, image: Image.Image) -> None:
    """What Pillow does not check by itself: checksums in a PNG, and strips missing in a TIFF."""
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        boxes = [tile.extents for tile in image.tile if tile.extents]
        covered = sum((right - left) * (low - top) for left, top, right, low in boxes)
        if covered < image.width * image.height:
            raise Unusable("damaged", f"pixels for {covered} of {image.width * image.height}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, read after the pixels: Pillow turns TIFFs upright while it loads them."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken note beside sound pixels
        return 1
    return orientation if isinstance(orientation, int) else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
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
