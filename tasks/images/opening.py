"""Opening: a picture whose header is read, and nothing allocated for its pixels.

In: the bytes of a file. Out: a Pillow image that has not been loaded. Some plugins of Pillow
allocate for what the header claims while they open a file. They are kept from it here, or the
header is read before. Raises `Unusable`.

    image = open_picture(data, limits, whole=False)
"""

import io
import re

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tasks.images import png, tiff
from tasks.images.kinds import format_of
from tasks.images.unusable import Limits, Reason, Unusable

# The box that tells the size of a picture, or of a tile of it, in AVIF and HEIC.
SPATIAL_EXTENTS = re.compile(rb"\0\0\0\x14ispe\0{4}(.{4})(.{4})", re.DOTALL)
MAX_PPM_HEADER_BYTES = 1 << 16
PPM_COMMENT = re.compile(rb"#[^\r\n]*")
PPM_WORDS = 4  # kind, width, height, largest value
# What plugins say of layouts that are sound, but that they do not read.
OTHER_LAYOUT = re.compile("cannot handle|[Uu]nsupported|unknown (?:pixel mode|data organization)")
NO_HEIC = "HEIC: convert it to JPEG, or install pillow-heif"


class FirstFrame(GifImagePlugin.GifImageFile):
    """A GIF of which nobody sees a second frame, so the first is never disposed of.

    Pillow makes ready for the disposal while it opens the file, in the size that the frame claims.
    """

    @property
    def disposal_method(self) -> int:
        """0: nothing is done after the frame."""
        return 0

    @disposal_method.setter
    def disposal_method(self, method: int) -> None:
        """The file's wish has no effect."""


PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": FirstFrame,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}


def open_picture(data: bytes, limits: Limits, *, whole: bool) -> ImageFile.ImageFile:
    """The picture, of a size within the limits. With `whole` its pixels can be loaded, too."""
    if not data:
        raise Unusable("empty", "the file has no bytes")
    kind = format_of(data)
    try:
        image = _open(kind, data, limits, whole=whole)
    except Unusable:
        raise
    except Exception as error:  # the format plugins raise whatever they stumble over
        reason: Reason = "unsupported" if OTHER_LAYOUT.search(str(error)) else "damaged"
        raise Unusable(reason, f"its header cannot be read: {error}") from error
    limits.check_size(image.width, image.height)
    return image


def _open(kind: str, data: bytes, limits: Limits, *, whole: bool) -> ImageFile.ImageFile:
    if kind in {"AVIF", "HEIC"}:
        for width, height in SPATIAL_EXTENTS.findall(data):
            limits.check_size(int.from_bytes(width, "big"), int.from_bytes(height, "big"))
    if kind == "HEIC":
        return _open_heic(data)
    if kind == "PNG":
        data = png.without_notes(data, whole=whole)
    if kind == "PPM":
        _check_ppm(data)
    if kind == "TIFF":
        tiff.check_directory(data, limits)
    if kind == "WEBP":
        limits.check_size(*_webp_size(data))
    return PLUGINS[kind](io.BytesIO(data))


def _check_ppm(data: bytes) -> None:
    """Pillow reads such a header byte by byte, which takes minutes for one as long as a file."""
    head = data[:MAX_PPM_HEADER_BYTES]
    if len(head) < len(data) and len(PPM_COMMENT.sub(b"", head).split()) < PPM_WORDS:
        raise Unusable("damaged", f"a header of more than {MAX_PPM_HEADER_BYTES:,} bytes")


def _open_heic(data: bytes) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise Unusable("unsupported", NO_HEIC) from error
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data))
    return image


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas: libwebp allocates it when it opens the file."""
    kind, head = data[12:16], data[:30].ljust(30, b"\0")
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width, height
