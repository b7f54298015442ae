"""JPEG: strict decoding, in which what lies beside the pixels is no damage.

In: the bytes of a JPEG. Out: its pixels, in each direction all or 1/2, 1/4 or 1/8 of them. libjpeg
decodes a damaged file, too, into a grey half, and only warns; so each warning is an error here. But
some tell of bytes that no pixel comes from. They are taken out, and what is left is decoded as
strictly: libjpeg tells its first warning only.

    pixels_HWC = decode_jpeg(data, "RGB", limits, whole).pixels_HWC
"""

import itertools
import re

import numpy as np
import simplejpeg

from tasks.images.scaled import Scaled, ScaleOf
from tasks.images.unusable import Limits, Unusable

MAX_SCANS = 100  # a progressive JPEG has about ten; each more costs a pass over all pixels
MAX_SOUGHT_SCANS = 16  # among which the one with bytes too many is sought, a decoding for each
MAX_MENDS = 4  # bytes to take out in one file: before the header's markers, and after the pixels

# Warnings that tell of no damage to the pixels. Bytes too many before a restart marker are not
# among them: there, pixels were lost. Before the end, a flipped bit can leave some, too: of flipped
# bits, 10 % are found instead of 24 %. But drones and cameras write them into every file.
HARMLESS = (
    re.compile(r"extraneous bytes before marker 0x(?!d[0-7])"),
    re.compile(r"unknown JFIF revision"),
    re.compile(r"Unknown Adobe color transform"),
    re.compile(r"Invalid SOS parameters for sequential"),
    re.compile(r"bad ICC marker"),
)
TOO_MANY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
OTHER_PROCESS = re.compile(r"[Uu]nsupported|not supported|Unsupported JPEG")

MARKER, START_OF_SCAN, END_OF_IMAGE = 0xFF, 0xDA, 0xD9
NEXT_MARKER = re.compile(rb"\xff+([^\0\xd0-\xd7\xff])", re.DOTALL)
# Segments that the pixels depend on: tables, frame and scan headers, restart intervals, and the
# two that tell the colours (APP0 and APP14). All others are notes.
OF_PIXELS = {*range(0xC0, 0xD0), END_OF_IMAGE, START_OF_SCAN, 0xDB, 0xDD, 0xE0, 0xEE}
SEQUENTIAL = {0xC0, 0xC1, 0xC9}


def whole(_width: int, _height: int) -> int:
    """Every pixel is wanted."""
    return 1


def decode_jpeg(data: bytes, colours: str, limits: Limits, scale_of: ScaleOf) -> Scaled:
    """Pixels (H, W, channels) of the first image, not yet upright. Raises Unusable."""
    if _may_have_scans(data) > MAX_SCANS and _count_scans(data) > MAX_SCANS:
        raise Unusable("unsupported", f"a JPEG of more than {MAX_SCANS} scans")
    for _ in range(MAX_MENDS):
        # By the parser that decodes: what another reads as the size could be a note.
        scaled, warning = _decode_strictly(data, colours, limits, scale_of)
        if scaled is not None:
            return scaled
        mended = _without_harmless(data, warning, colours, limits)
        if mended is None:
            raise _refused(warning)
        data = mended
    raise Unusable("damaged", "bytes between its parts, again and again")


def _decode_strictly(
    data: bytes, colours: str, limits: Limits, scale_of: ScaleOf
) -> tuple[Scaled | None, str]:
    """The pixels, or the first warning or error."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        limits.check_size(width, height)
        scale = scale_of(width, height)
        pixels = simplejpeg.decode_jpeg(
            data,
            colours,
            min_height=-(-height // scale),
            min_width=-(-width // scale),
            min_factor=scale,
            strict=True,
        )
        return Scaled(np.asarray(pixels), width, height, scale, has_scales=True), ""
    except ValueError as error:
        return None, str(error)


def _refused(message: str) -> Unusable:
    is_other = OTHER_PROCESS.search(message)
    return Unusable("unsupported" if is_other else "damaged", message)


def _may_have_scans(data: bytes) -> int:
    """How often the marker of a scan stands anywhere; numpy lets other threads go on meanwhile."""
    bytes_N = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((bytes_N[:-1] == MARKER) & (bytes_N[1:] == START_OF_SCAN)))


def _count_scans(data: bytes) -> int:
    """Scans of the first image; a video behind it has the same bytes by chance."""
    return sum(marker == START_OF_SCAN for marker, _, _ in _segments(data))


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of each segment of the first image, up to its end marker.

    Pixels follow the segments of a scan, up to the start of the next segment.
    """
    segments, at = [], 2
    while found := NEXT_MARKER.search(data, at):
        marker, start = found[1][0], found.end() - 2
        is_last = marker == END_OF_IMAGE
        length = 0 if is_last else int.from_bytes(data[start + 2 : start + 4], "big")
        segments.append((marker, start, start + 2 + length))
        at = start + 2 + length
        if is_last:
            break
    return segments


def _without_harmless(data: bytes, warning: str, colours: str, limits: Limits) -> bytes | None:
    """The file without what this warning tells of; None when it tells of damage."""
    if not any(pattern.search(warning) for pattern in HARMLESS):
        return None
    tidy = _tidy(data)
    too_many = TOO_MANY_BYTES.search(warning)
    if tidy != data or too_many is None:
        return None if tidy == data else tidy
    count, marker = int(too_many[1]), int(too_many[2], 16)
    # The warning does not tell which scan they follow. Taken from an earlier one, pixels are
    # missed, and from a later one, the warning stays.
    ends = _ends_of_scans(data, marker)
    for end in reversed(ends if len(ends) <= MAX_SOUGHT_SCANS else []):
        mended = data[: end - count] + data[end:]
        if _decode_strictly(mended, colours, limits, whole)[1] != warning:
            return mended
    return None


def _ends_of_scans(data: bytes, marker: int) -> list[int]:
    """Where the pixels of a scan end, at this marker."""
    pairs = itertools.pairwise(_segments(data))
    return [
        end
        for (scan, _, _), (following, end, _) in pairs
        if scan == START_OF_SCAN and following == marker
    ]


def _tidy(data: bytes) -> bytes:
    """The first image without notes, and without bytes between its segments."""
    pieces, pixels_from = [b"\xff\xd8"], None
    is_sequential = False
    for marker, start, end in _segments(data):
        if pixels_from is not None:
            pieces.append(data[pixels_from:start])
        pixels_from = end if marker == START_OF_SCAN else None
        is_sequential |= marker in SEQUENTIAL
        if marker in OF_PIXELS:
            pieces.append(_usual(marker, data[start:end], is_sequential=is_sequential))
    if pixels_from is not None:  # cut off: without the rest, that would not show
        pieces.append(data[pixels_from:])
    return b"".join(pieces)


def _usual(marker: int, segment: bytes, *, is_sequential: bool) -> bytes:
    """The segment with the values that libjpeg takes anyway, when it warns of others."""
    if marker == 0xE0 and segment[4:9] == b"JFIF\0":
        return segment[:9] + b"\1" + segment[10:]
    if marker == 0xEE and segment[4:9] == b"Adobe" and segment[15:16] not in {b"\0", b"\1", b"\2"}:
        return segment[:15] + b"\1" + segment[16:]
    if marker == START_OF_SCAN and is_sequential:
        return segment[:-3] + b"\0\x3f\0"
    return segment
