"""Pictures of one row, one column and one pixel pass through every place that looks at pictures."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.augment import Augmentation, augment, cutmix, mixup
from tasks.duplicates.matching import signature_of
from tasks.images import Inputs, decode, encode_png, thumbnail
from tasks.images.unusable import Limits
from tasks.inference.pictures import read_picture
from tasks.train.data.views import View
from tests.builders.pictures import write_sources
from tests.faults.driver import run_campaign

SHAPES = [(1, 2000), (2000, 1), (1, 1), (2, 1), (1, 3), (3, 2000)]
KINDS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"]
NONE: dict[str, Any] = {
    "flip": False,
    "rotate_degrees": 0,
    "translate": 0,
    "scale": 0,
    "shear": 0,
    "elastic": 0,
    "erase": 0,
    "colour": 0,
    "grey": 0,
    "blur": 0,
    "randaugment_ops": 0,
    "randaugment_magnitude": 30,
    "randaugment_version": "noisy_student",
}
LARGEST: dict[str, Any] = {
    "flip": True,
    "rotate_degrees": 180,
    "translate": 1,
    "scale": 1,
    "shear": 1,
    "elastic": 1,
    "erase": 1,
    "colour": 2,
    "grey": 1,
    "blur": 1,
    "randaugment_ops": 16,
    "randaugment_magnitude": 30,
    "randaugment_version": "paper",
}


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_shapes_are_decoded_and_shown(kind: str, height: int, width: int) -> None:
    sink = io.BytesIO()
    Image.fromarray(pixels(height, width)).save(sink, kind)
    found = decode(sink.getvalue(), Limits())
    assert found.shape == (height, width, 3)
    assert read_picture(sink.getvalue()).shape == (height, width, 3)
    small = thumbnail(sink.getvalue())
    shown = Image.open(io.BytesIO(base64.b64decode(small.uri.partition("base64,")[2])))
    assert shown.size == (small.width, small.height)
    assert max(shown.size) == min(160, max(height, width))
    assert small.is_tiny == (max(height, width) < 48)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("crop_min_area", [0.01, 0.35, 1])
def test_odd_shapes_give_views_and_signatures(
    height: int, width: int, crop_min_area: float
) -> None:
    picture = pixels(height, width)
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG")
    data = sink.getvalue()
    for size, resize in ((8, 8), (32, 40), (224, 256)):
        view = View(size, resize, crop_min_area, seed=0)
        for position in range(10):
            assert view.read(data, position)[0].shape == (size, size, 3)
        assert Inputs(size=size, resize=resize).square(picture).shape == (size, size, 3)
    assert signature_of(picture) == signature_of(picture.copy())


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
@pytest.mark.parametrize("change", LARGEST)
def test_every_augmentation_keeps_the_shape_of_a_tiny_batch(
    change: str, shape: tuple[int, int]
) -> None:
    images_BCHW = torch.rand(4, 3, *shape)
    changed_BCHW = augment(images_BCHW, Augmentation(**{**NONE, change: LARGEST[change]}))
    assert changed_BCHW.shape == images_BCHW.shape
    assert changed_BCHW.isfinite().all()
    assert changed_BCHW.min() >= 0
    assert changed_BCHW.max() <= 1.0001


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_all_augmentations_at_once_keep_any_shape(
    batch: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    images_BCHW = torch.rand(batch, 3, height, width)
    changed_BCHW = augment(images_BCHW, Augmentation(**LARGEST))
    assert changed_BCHW.shape == images_BCHW.shape
    assert changed_BCHW.isfinite().all()
    for change in (mixup, cutmix):
        mixed_BCHW, targets_BC = change(images_BCHW, torch.eye(batch), alpha=0.2)
        assert mixed_BCHW.shape == images_BCHW.shape
        assert targets_BC.sum(dim=1) == pytest.approx(torch.ones(batch))


def test_a_campaign_takes_odd_shapes_in_each_of_its_sources(tmp_path: Path) -> None:
    write_sources(tmp_path / "pictures", seed=0, labelled=4, pile=8, test=4)
    for number, path in enumerate(sorted((tmp_path / "pictures").rglob("*.png"))):
        if number % 2:
            colour = decode(path.read_bytes(), Limits())[0, 0]
            height, width = SHAPES[number // 2 % len(SHAPES)]
            path.write_bytes(encode_png(np.full((height, width, 3), colour, np.uint8)))
    outputs = run_campaign(str(tmp_path / "root"), tmp_path / "pictures")
    assert outputs["pile"].rejected == 0
    assert outputs["score"].kept == outputs["pile"].kept == 24
    assert outputs["report"].stage == "report"


def test_a_png_of_one_pixel_comes_back() -> None:
    assert decode(encode_png(pixels(1, 1)), Limits()).tolist() == pixels(1, 1).tolist()
