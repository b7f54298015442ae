"""What is odd beside sound pixels of a JPEG or a PNG does no harm, and hides no damage."""

import random
import struct
import zlib

import numpy as np
import pytest

from tasks.images import Limits, Unusable, check, decode
from tests.builders.encoded import NOISE, chunk, encoded, png, with_chunk
from tests.builders.reference import pillow_pixels

LIMITS = Limits(max_pixels=1_000_000)
JPEG = encoded(NOISE, "JPEG", quality=90)
PROGRESSIVE = encoded(NOISE, "JPEG", quality=90, progressive=True)
RESTARTS = encoded(NOISE, "JPEG", quality=90, restart_marker_blocks=3)
PNG = encoded(NOISE, "PNG")


def refusal(data: bytes) -> Unusable:
    with pytest.raises(Unusable) as caught:
        decode(data, LIMITS)
    return caught.value


def same_as_pillow(data: bytes) -> bool:
    check(data, LIMITS)
    return np.array_equal(decode(data, LIMITS), pillow_pixels(data))


# ------------------------------------------------------------------- JPEG: bytes beside the pixels


def before(marker: bytes, data: bytes, piece: bytes) -> bytes:
    at = data.rindex(marker)
    return data[:at] + piece + data[at:]


def patched(data: bytes, after: bytes, offset: int, new: bytes) -> bytes:
    at = data.index(after) + offset
    return data[:at] + new + data[at + len(new) :]


RUBBISH = bytes(number for number in random.Random(0).randbytes(400) if number != 255)
ICC = b"\xff\xe2" + struct.pack(">H", 20) + b"ICC_PROFILE\0\7\2\0\0\0\0"
SOS_OF_BASELINE = b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11"

HARMLESS = {
    "zeros before the end": before(b"\xff\xd9", JPEG, bytes(300)),
    "rubbish before the end": before(b"\xff\xd9", JPEG, RUBBISH),
    "escaped rubbish before the end": before(b"\xff\xd9", JPEG, b"\xff\0\7" * 50),
    "padding before the end": before(b"\xff\xd9", JPEG, b"\xff" * 50),
    "rubbish and padding before the end": before(b"\xff\xd9", JPEG, b"\1\2\3\xff\xff\xff"),
    "rubbish before the end of a progressive one": before(b"\xff\xd9", PROGRESSIVE, RUBBISH),
    "rubbish before the end of one with restarts": before(b"\xff\xd9", RESTARTS, RUBBISH),
    "rubbish between the scans": before(b"\xff\xc4", PROGRESSIVE, RUBBISH),
    "rubbish before the scan": before(b"\xff\xda", JPEG, RUBBISH),
    "rubbish before the size": before(b"\xff\xc0", JPEG, RUBBISH),
    "rubbish in two places": before(b"\xff\xd9", before(b"\xff\xda", JPEG, b"\1\2\3"), bytes(30)),
    "an unknown version": patched(JPEG, b"JFIF\0", 5, b"\7"),
    "an unknown transform": JPEG[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07" + JPEG[20:],
    "a broken profile": JPEG[:2] + ICC + JPEG[2:],
    "odd numbers of the scan": patched(JPEG, SOS_OF_BASELINE, len(SOS_OF_BASELINE), b"\0\0\0"),
    "bytes behind the end": JPEG + RUBBISH,
    "no bytes behind the end but zeros": JPEG + bytes(5000),
    "a broken note": JPEG[:2] + b"\xff\xe1\0\x08Exif\0\0" + JPEG[2:],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_bytes_beside_the_pixels_of_a_jpeg_are_no_damage(name: str) -> None:
    assert same_as_pillow(HARMLESS[name])


@pytest.mark.parametrize("base", [JPEG, PROGRESSIVE, RESTARTS], ids=["one", "many", "restarts"])
def test_damage_is_found_behind_a_harmless_oddity(base: bytes) -> None:
    """libjpeg tells its first warning only, which must not hide a second one."""
    odd = before(b"\xff\xc0" if b"\xff\xc0" in base else b"\xff\xc2", base, RUBBISH)
    assert refusal(odd[: len(odd) * 2 // 3]).reason == "damaged"
    assert refusal(odd[: len(odd) * 2 // 3] + b"\xff\xd9").reason == "damaged"
    assert refusal(odd[:-200] + b"\xff\xd9").reason == "damaged"


def test_bytes_before_a_restart_are_damage() -> None:
    assert refusal(before(b"\xff\xd1", RESTARTS, b"\1\2\3\4")).reason == "damaged"


def test_a_video_behind_a_photo_is_ignored() -> None:
    video = b"\0\0\0\x18ftypmp42" + random.Random(1).randbytes(1 << 20)
    scans = b"".join(b"\xff\xda" + video[at : at + 50] for at in range(0, 50_000, 50))
    for photo in (JPEG, PROGRESSIVE, RESTARTS):
        assert same_as_pillow(photo + video + scans)


def test_scans_are_counted_in_the_first_image_only() -> None:
    note = b"\xff\xe5" + struct.pack(">H", 60_002) + b"\xff\xda\0\2" * 15_000
    assert same_as_pillow(JPEG[:2] + note + JPEG[2:])
    last = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    many = refusal(PROGRESSIVE[:-2] + last * 120 + b"\xff\xd9" + JPEG)
    assert (many.reason, "scans" in many.detail) == ("unsupported", True)


@pytest.mark.parametrize(
    ("old", "new"), [(b"\xff\xc0", b"\xff\xc3"), (b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")]
)
def test_a_jpeg_of_another_process_is_unsupported(old: bytes, new: bytes) -> None:
    assert refusal(JPEG.replace(old, new, 1)).reason == "unsupported"


# -------------------------------------------------------------------------------- notes of a PNG

LARGE = zlib.compress(bytes(2_000_000))
NOTES = {
    "large text": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "large international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "plain large text": chunk(b"tEXt", b"parameters\0" + b"x" * 3_000_000),
    "a large profile": chunk(b"iCCP", b"profile\0\0" + LARGE),
    "a broken profile": chunk(b"iCCP", b"profile\0\7rubbish"),
    "an empty profile": chunk(b"iCCP", b""),
    "text with a wrong checksum": chunk(b"tEXt", b"Comment\0hello", crc=1),
    "gamma with a wrong checksum": chunk(b"gAMA", b"\0\0\xb1\x8f", crc=1),
    "a cut gamma": chunk(b"gAMA", b"\0"),
    "a cut resolution": chunk(b"pHYs", b"\0\0"),
    "colours cut": chunk(b"cHRM", b"\0\0"),
    "an animation cut": chunk(b"acTL", b"\0"),
    "frames out of order": chunk(b"acTL", struct.pack(">II", 2, 0))
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 7, 60, 40, 0, 0, 1, 1, 0, 0)),
    "a note of nobody": chunk(b"zzZz", b"rubbish", crc=3),
    "broken exif": chunk(b"eXIf", b"rubbish"),
    "exif with a wrong checksum": chunk(b"eXIf", b"II*\0", crc=1),
    "a word of Pillow's": chunk(b"tEXt", b"transparency\0red"),
    "another word of Pillow's": chunk(b"tEXt", b"interlace\0yes") + chunk(b"tEXt", b"bbox\0all"),
    "exif as text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"rubbish")),
    "exif as packed rubbish": chunk(b"zTXt", b"Raw profile type exif\0\0rubbish"),
}


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", NOTES)
def test_notes_of_a_png_are_no_damage(name: str, place: bytes) -> None:
    data = with_chunk(PNG, NOTES[name], before=place)
    check(data, LIMITS)
    assert np.array_equal(decode(data, LIMITS), np.asarray(NOISE))


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT", b"tRNS"])
def test_a_wrong_checksum_of_what_pixels_are_made_of_is_damage(name: bytes) -> None:
    data = bytearray(encoded(NOISE.convert("P"), "PNG", transparency=3))
    at = data.index(name) + 4
    data[at + int.from_bytes(data[at - 8 : at - 4], "big")] ^= 1
    assert refusal(bytes(data)).reason == "damaged"


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_note_that_says_how_the_camera_was_held_is_heeded(place: bytes, packed: bool) -> None:
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    text = b"\1\0\0\0" + zlib.compress(xmp) if packed else b"\0\0\0\0" + xmp
    data = with_chunk(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0" + text), before=place)
    assert decode(data, LIMITS).shape == (60, 40, 3)
    assert same_as_pillow(data)


def test_an_animated_png_gives_its_first_frame() -> None:
    data = encoded(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(180)])
    assert same_as_pillow(data)
    torn = bytearray(data)
    torn[data.index(b"fdAT") + 10] ^= 1
    assert np.array_equal(decode(bytes(torn), LIMITS), np.asarray(NOISE))


def test_png_chunks_that_are_unknown_but_critical_do_not_hide_damage() -> None:
    assert refusal(png(8, 8, (b"IDAT", b"rubbish"))).reason == "damaged"
