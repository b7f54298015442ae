"""Scaled decoding: a smaller decoding shows the same places, and finds the same damage."""

import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_images

from tasks.images import (
    Box,
    Inputs,
    Limits,
    Pixels,
    Unusable,
    decode,
    decode_scaled,
    random_box,
    scale_for,
)
from tasks.train.data.views import View

PHOTOS: list[Pixels] = load_sample_images().images  # 640 x 427
SCALES = [1, 2, 4, 8]


def difference(first: Pixels, second: Pixels) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def ramp(height: int, width: int) -> Pixels:
    """Red grows to the right and green downwards, by 4 a pixel: a shift shows in the mean."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([4 * columns, 4 * rows, 0 * rows], 2).astype(np.uint8)


def jpeg_of(pixels_HWC: Pixels, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "JPEG", quality=98, subsampling=0, exif=exif)
    return sink.getvalue()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_box_shows_the_same_place_at_every_scale(orientation: int, scale: int) -> None:
    # No scale divides these sides, so the last pixels of rows and columns are parts of pixels.
    data = jpeg_of(ramp(45, 61), orientation)
    whole = decode_scaled(data, Limits(), lambda *_: 1)
    small = decode_scaled(data, Limits(), lambda *_: scale)
    assert (small.width, small.height) == (whole.width, whole.height)
    assert small.pixels_HWC.shape[:2] == (-(-whole.height // scale), -(-whole.width // scale))
    for left, top in ((8, 8), (16, 8), (whole.width - 32, whole.height - 32)):
        box = Box(left, top, 24, 24)
        crops = [scaled.crop(box, 2, "bilinear") for scaled in (whole, small)]
        assert np.abs(crops[0].astype(int) - crops[1]).max() <= 2, (left, top)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(8, 300), st.integers(0, 99))
def test_every_box_keeps_twice_the_pixels_of_its_target(
    width: int, height: int, size: int, seed: int
) -> None:
    boxes = [random_box(width, height, 0.1, np.random.default_rng([seed, n])) for n in range(2)]
    shortest = min(min(box.width, box.height) for box in boxes)
    scale = scale_for(boxes, size)
    assert scale in SCALES
    assert scale == 1 or shortest >= 2 * size * scale
    assert scale == 8 or shortest < 2 * size * 2 * scale
    for box in boxes:
        assert 0 <= box.left <= width - box.width
        assert 0 <= box.top <= height - box.height


@settings(max_examples=20)
@given(st.integers(0, 1), st.sampled_from([16, 32, 64]), st.integers(0, 99))
def test_crops_of_photographs_hardly_differ_from_those_of_whole_decoding(
    photo: int, size: int, position: int
) -> None:
    data = simplejpeg.encode_jpeg(PHOTOS[photo], quality=90, colorsubsampling="420")
    box = random_box(640, 427, 0.2, np.random.default_rng(position))
    small = decode_scaled(data, Limits(), lambda *_: scale_for([box], size))
    whole = decode_scaled(data, Limits(), lambda *_: 1)
    crops = [scaled.crop(box, size, "bilinear") for scaled in (whole, small)]
    # Of all 600 cases, one draws 1.9, two more than 1.5, and the others less than 1.2.
    assert difference(*crops) < 2


def verdict(data: bytes, scale: int) -> str:
    try:
        decode_scaled(data, Limits(), lambda *_: scale)
    except Unusable as unusable:
        return str(unusable)
    return "sound"


def test_damage_is_found_at_every_scale_alike() -> None:
    sound = jpeg_of(PHOTOS[0][:90, :120])
    rng = np.random.default_rng(0)
    found = {verdict(sound[: len(sound) // 2], scale) for scale in SCALES}
    assert len(found) == 1
    assert "damaged" in found.pop()
    for _ in range(100):
        torn = bytearray(sound)
        torn[rng.integers(len(sound))] ^= 1 << int(rng.integers(8))
        assert len({verdict(bytes(torn), scale) for scale in SCALES}) == 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_ink_are_decoded_smaller_too(mode: str) -> None:
    sink = io.BytesIO()
    Image.fromarray(PHOTOS[0]).convert(mode).save(sink, "JPEG")
    whole = decode(sink.getvalue(), Limits())
    small = decode_scaled(sink.getvalue(), Limits(), lambda *_: 4)
    assert small.pixels_HWC.shape == (107, 160, 3)
    halved = np.asarray(Image.fromarray(whole).resize((160, 107), Image.Resampling.BOX))
    assert difference(small.pixels_HWC, halved) < 4


def test_fixed_view_is_what_a_network_is_scored_with() -> None:
    data = jpeg_of(PHOTOS[0])
    inputs = Inputs(size=16, resize=20)
    view = View(inputs.size, inputs.resize, 1, seed=0)
    assert np.array_equal(view.read(data, 3)[0], inputs.square(decode(data, Limits())))


def test_random_views_of_a_large_photograph_are_decoded_smaller() -> None:
    data = jpeg_of(PHOTOS[0])
    view = View(16, 16, 0.5, seed=0, num_views=2)
    first, second = view.read(data, 3)
    boxes = [random_box(640, 427, 0.5, np.random.default_rng([0, 3, n])) for n in range(2)]
    small = decode_scaled(data, Limits(), lambda *_: 8)
    assert np.array_equal(first, small.crop(boxes[0], 16, "bilinear"))
    assert np.array_equal(second, small.crop(boxes[1], 16, "bilinear"))
