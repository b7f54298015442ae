"""Decoded images: they are kept while all fit, and change nothing but the time."""

import io

import numpy as np
import pytest
from PIL import Image

from tasks.images import Inputs, Limits, Pixels, Scaled, decode, decode_scaled, encode_png
from tasks.images.scaled import ScaleOf
from tasks.train.augment_options import Augment
from tasks.train.data import BatchReader, views
from tasks.train.data.decoded import DecodedImages
from tasks.train.data.samples import Part, Targets
from tasks.train.data.views import View
from tasks.train.options import TrainOptions, TrainSpeed

NOISE_HWC = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)


def jpeg(pixels_HWC: Pixels) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, format="JPEG")
    return sink.getvalue()


class Mixed:
    """Large and small JPEGs, and PNGs, in two parts."""

    uri, part_rows, part_bytes = "memory://mixed", (6, 6), (1, 1)

    def read_part(self, part: int) -> Part:
        images = [jpeg(NOISE_HWC[part + row :]) for row in range(2)]
        images += [jpeg(NOISE_HWC[: 20 + part, :24]), jpeg(NOISE_HWC[: 24 + part, :20])]
        images += [encode_png(NOISE_HWC[part + row :]) for row in range(2)]
        rows_P = np.arange(6)
        return Part(images, Targets(rows_P, np.zeros(6, np.int64), np.ones(6, np.float32)))


def reader(cache_gib: float, min_area: float = 0.05, num_views: int = 1) -> BatchReader:
    options = TrainOptions(
        inputs=Inputs(size=16, resize=18),
        augment=Augment(crop_min_area=min_area),
        speed=TrainSpeed(cache_gib=cache_gib),
    )
    return BatchReader(Mixed(), options, batch_size=6, num_views=num_views)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that an image was decoded for random crops."""
    times: list[int] = []

    def counted(data: bytes, limits: Limits, scale_of: ScaleOf) -> Scaled:
        times.append(1)
        return decode_scaled(data, limits, scale_of)

    monkeypatch.setattr(views, "decode_scaled", counted)
    return times


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("min_area", [0.05, 1])
def test_kept_images_give_the_bits_of_images_that_are_decoded_again(
    min_area: float, num_views: int
) -> None:
    kept, again = reader(1, min_area, num_views), reader(0, min_area, num_views)
    for step in range(40):
        found = kept.read(step, rank=0, num_ranks=1).images_BHWC
        assert np.array_equal(found, again.read(step, rank=0, num_ranks=1).images_BHWC)


def test_what_fits_is_decoded_once_a_scale__and_what_does_not_every_time(
    decodings: list[int],
) -> None:
    kept = reader(1)
    for step in range(2):
        kept.read(step, rank=0, num_ranks=1)
    assert len(decodings) == 12
    for step in range(2, 40):
        kept.read(step, rank=0, num_ranks=1)
    # The 4 small JPEGs and the 4 PNGs never again; of the 4 large JPEGs, when the scale changes.
    assert 12 < len(decodings) <= 12 + 4 * 19
    decodings.clear()
    small = reader(20_000 / 2**30)
    for step in range(10):
        small.read(step, rank=0, num_ranks=1)
    assert len(decodings) == 60


def test_image_at_another_scale_is_decoded_again__and_a_png_is_not(decodings: list[int]) -> None:
    for data, expected in ((jpeg(NOISE_HWC), 30), (encode_png(NOISE_HWC), 1)):
        decodings.clear()
        view = View(size=16, resize=16, crop_min_area=0.05, seed=1)
        decoded = None
        for position in range(30):
            _, decoded = view.read_again(data, position, decoded)
        assert 1 <= len(decodings) <= expected
        assert (len(decodings) > 1) == (expected > 1)


@pytest.mark.parametrize(("limit_bytes", "kept"), [(12 * 16 * 16 * 3, 6), (11 * 16 * 16 * 3, 0)])
def test_none_is_kept_of_fixed_views_that_do_not_fit(limit_bytes: int, kept: int) -> None:
    fixed = reader(limit_bytes / 2**30, min_area=1)
    fixed.read(0, rank=0, num_ranks=1)
    places = [(part, row) for part in range(2) for row in range(6)]
    assert sum(fixed._views.decoded.get(place) is not None for place in places) == kept


def test_all_are_forgotten_when_they_become_more_than_the_limit() -> None:
    images = DecodedImages(limit_bytes=2 * NOISE_HWC.nbytes)
    image = Scaled(NOISE_HWC, 70, 90)
    images.add((0, 0), image)
    images.add((0, 0), image)  # in its own place
    images.add((0, 1), image)
    assert images.get((0, 0)) is images.get((0, 1)) is image
    images.add((1, 0), image)
    images.add((1, 1), Scaled(decode(encode_png(NOISE_HWC[:1]), Limits()), 70, 1))
    assert [images.get(place) for place in ((0, 0), (0, 1), (1, 0), (1, 1))] == [None] * 4
