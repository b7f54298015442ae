"""RandAugment: the published lists with their amounts, and geometry as Pillow has it."""

import math
from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.augment import VERSIONS, RandAugmentVersion
from models.augment import randaugment as module
from models.augment.erase import GREY
from models.augment.randaugment import Operation, operations_of, randaugment_
from tasks.train import Augment

SIDE = 224


def amounts(version: RandAugmentVersion, magnitude: int, side: int = SIDE) -> dict[str, float]:
    """The amount of each operation, with its spread, by the name of its function."""
    return {
        operation.change.__name__: (operation.amount or 0) + operation.spread
        for operation in operations_of(version, magnitude, side)
    }


def test_options_offer_every_version() -> None:
    assert get_args(Augment.model_fields["randaugment_version"].annotation) == VERSIONS


def test_paper_has_its_14_operations_and_the_largest_changes_of_autoaugment() -> None:
    assert len(operations_of("paper", 9, SIDE)) == 14
    found = amounts("paper", 30)
    assert found["rotate"] == pytest.approx(math.radians(30))
    assert found["shear_x"] == found["shear_y"] == pytest.approx(0.3)
    assert found["translate_x"] == found["translate_y"] == pytest.approx(150 / 331)
    assert found["posterize"] == 4
    assert found["solarize"] == 0
    for name in ("saturation", "contrast", "brightness", "sharpness"):
        assert found[name] == pytest.approx(1.9), name


@pytest.mark.parametrize(("magnitude", "bits"), [(0, 8), (9, 7), (15, 6), (20, 5), (27, 4)])
def test_paper_posterizes_as_torchvision(magnitude: int, bits: int) -> None:
    assert amounts("paper", magnitude)["posterize"] == bits


def test_paper_with_magnitude_0_is_no_change_but_for_those_without_one() -> None:
    images_BCHW = torch.rand(2, 3, 16, 16)
    for operation in operations_of("paper", 0, 16):
        if operation.amount is not None:
            amount_B111 = torch.full((2, 1, 1, 1), float(operation.amount + operation.spread))
            found_BCHW = operation.change(images_BCHW, amount_B111)
            assert torch.allclose(found_BCHW, images_BCHW, atol=1e-5), operation


@pytest.mark.parametrize("magnitude", [6, 15, 27])
def test_noisy_student_has_its_16_operations_and_levels(magnitude: int) -> None:
    level = magnitude / 10
    found = amounts("noisy_student", magnitude)
    assert len(found) == 16
    assert found["rotate"] == pytest.approx(math.radians(level * 30))
    assert found["shear_x"] == found["shear_y"] == pytest.approx(level * 0.3)
    assert found["translate_x"] * SIDE == pytest.approx(level * 100)
    assert found["translate_y"] * SIDE == pytest.approx(level * 100)
    assert found["cutout"] * SIDE == pytest.approx(int(level * 40))
    assert found["posterize"] == int(level * 4)
    assert found["solarize"] == int(level * 256)
    assert found["solarize_add"] == int(level * 110)
    for name in ("saturation", "contrast", "brightness", "sharpness"):
        assert found[name] == pytest.approx(level * 1.8 + 0.1), name


def test_pixels_of_noisy_student_stay_and_shrink_below_224() -> None:
    shares = {
        side: amounts("noisy_student", 9, side)["translate_x"] for side in (28, 224, 475, 600)
    }
    assert shares[28] == shares[224] == pytest.approx(90 / 224)
    assert shares[475] == pytest.approx(90 / 475)
    assert shares[600] == pytest.approx(90 / 600)


def smooth_picture() -> Image.Image:
    coarse_HWC = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse_HWC).resize((48, 48), Image.Resampling.BICUBIC)


def check_geometry(found_BCHW: Tensor, expected: Image.Image) -> None:
    """Pillow counts from the corner of a pixel and fills hard; at the edge that differs."""
    found_HWC = found_BCHW[0].permute(1, 2, 0).numpy() * 255
    difference_HW = np.abs(found_HWC - np.asarray(expected, np.float32)).max(axis=2)
    assert np.median(difference_HW) <= 1
    assert (difference_HW <= 3).mean() > 0.93


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("name", "amount", "matrix"),
    [
        ("shear_x", 0.3, (1, 0.3, 0, 0, 1, 0)),
        ("shear_y", 0.3, (1, 0, 0, 0.3, 1, 0)),
        ("translate_x", 0.25, (1, 0, 12, 0, 1, 0)),
        ("translate_y", 0.25, (1, 0, 0, 0, 1, 12)),
    ],
)
def test_geometry_as_pillow(name: str, amount: float, matrix: tuple[float, ...], sign: int) -> None:
    """The matrices of timm and of Noisy Student, which shear around the corner."""
    picture = smooth_picture()
    signed = [
        value * sign if place in (1, 2, 3, 5) else value for place, value in enumerate(matrix)
    ]
    expected = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        signed,
        resample=Image.Resampling.BILINEAR,
        fillcolor=(128, 128, 128),
    )
    check_geometry(moved(picture, name, amount * sign), expected)


@pytest.mark.parametrize("degrees", [-81, -30, 15, 45])
def test_rotation_as_pillow(degrees: float) -> None:
    picture = smooth_picture()
    expected = picture.rotate(
        -degrees, resample=Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)
    )
    check_geometry(moved(picture, "rotate", -math.radians(degrees)), expected)


def moved(picture: Image.Image, name: str, amount: float) -> Tensor:
    images_BCHW = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    found_BCHW: Tensor = getattr(module, name)(images_BCHW, torch.full((1, 1, 1, 1), amount))
    return found_BCHW


def test_what_is_moved_in_is_grey() -> None:
    found_BCHW = moved(Image.new("RGB", (16, 16), (255, 0, 10)), "translate_x", 2.7)
    assert torch.allclose(found_BCHW, torch.tensor(GREY), atol=1e-6)


def test_every_operation_is_as_likely_and_both_signs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[int, float]] = Counter()

    def count(number: int) -> Operation:
        def change(images_RCHW: Tensor, amount_R111: Tensor) -> Tensor:
            seen.update((number, amount) for amount in amount_R111.flatten().tolist())
            return images_RCHW

        return Operation(change, 0, 1)

    monkeypatch.setattr(module, "operations_of", lambda *_, **__: [count(0), count(1), count(2)])
    torch.manual_seed(0)
    randaugment_(torch.rand(6000, 3, 1, 1), 2, 9, "paper")
    assert sum(seen.values()) == 12_000, "every image takes part in every operation"
    assert len(seen) == 6
    assert all(count == pytest.approx(2000, abs=200) for count in seen.values())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_range_is_kept_at_every_magnitude(version: RandAugmentVersion, magnitude: int) -> None:
    torch.manual_seed(1)
    images_BCHW = torch.rand(64, 3, 12, 12)
    randaugment_(images_BCHW, 3, magnitude, version)
    assert images_BCHW.isfinite().all()
    assert images_BCHW.min() >= 0
    assert images_BCHW.max() <= 1
