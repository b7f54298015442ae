"""Tones: the same as Pillow's ImageOps and ImageEnhance, but for rounding."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from models.augment import tones

Pixels = npt.NDArray[np.uint8]


def picture(kind: str) -> Pixels:
    """Pictures with few levels, many, one, and a narrow range."""
    rng = np.random.default_rng(1)
    if kind == "flat":
        return np.full((12, 10, 3), (30, 30, 200), np.uint8)
    if kind == "narrow":
        return rng.integers(90, 130, (40, 30, 3), dtype=np.uint8)
    if kind == "two":
        return (rng.integers(0, 2, (20, 30, 3)) * 100 + 50).astype(np.uint8)
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (48, 1)), rng.integers(0, 256, (48, 64)), np.tile(ramp[::-1], (48, 1))], 2
    ).astype(np.uint8)


def tensor_of(pixels_HWC: Pixels) -> Tensor:
    return torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None].float() / 255


def differences(found_BCHW: Tensor, expected: Image.Image) -> npt.NDArray[np.float32]:
    found_HWC = found_BCHW[0].permute(1, 2, 0).numpy() * 255
    difference: npt.NDArray[np.float32] = np.abs(found_HWC - np.asarray(expected, np.float32))
    return difference


KINDS = ["flat", "narrow", "two", "all"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_without_amount_as_pillow(name: str, kind: str) -> None:
    pixels_HWC = picture(kind)
    found_BCHW = getattr(tones, name)(tensor_of(pixels_HWC))
    expected = getattr(ImageOps, name)(Image.fromarray(pixels_HWC))
    # Pillow cuts off what is behind the point; equal levels have nothing there.
    assert differences(found_BCHW, expected).max() <= (1 if name == "autocontrast" else 1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_as_pillow(bits: int, kind: str) -> None:
    pixels_HWC = picture(kind)
    found_BCHW = tones.posterize(tensor_of(pixels_HWC), torch.full((1, 1, 1, 1), float(bits)))
    expected = ImageOps.posterize(Image.fromarray(pixels_HWC), bits)
    assert differences(found_BCHW, expected).max() <= 1e-3


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_posterize_with_all_bits_changes_nothing(bits: int) -> None:
    images_BCHW = torch.rand(2, 3, 5, 5)
    bits_B111 = torch.full((2, 1, 1, 1), float(bits))
    assert torch.equal(tones.posterize(images_BCHW, bits_B111), images_BCHW)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255, 256])
def test_solarize_as_pillow(threshold: int, kind: str) -> None:
    pixels_HWC = picture(kind)
    threshold_B111 = torch.full((1, 1, 1, 1), float(threshold))
    found_BCHW = tones.solarize(tensor_of(pixels_HWC), threshold_B111)
    expected = ImageOps.solarize(Image.fromarray(pixels_HWC), threshold)
    assert differences(found_BCHW, expected).max() <= 1e-3


@pytest.mark.parametrize("addition", [0, 33, 110, 297])
def test_solarize_add_brightens_the_dark_half(addition: int) -> None:
    pixels_HWC = picture("all")
    found_BCHW = tones.solarize_add(
        tensor_of(pixels_HWC), torch.full((1, 1, 1, 1), float(addition))
    )
    table = [min(255, level + addition) if level < 128 else level for level in range(256)] * 3
    assert differences(found_BCHW, Image.fromarray(pixels_HWC).point(table)).max() <= 1e-3


ENHANCED: dict[
    str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Image.Image], ImageEnhance._Enhance]]
] = {
    "saturation": (tones.saturation, ImageEnhance.Color),
    "contrast": (tones.contrast, ImageEnhance.Contrast),
    "brightness": (tones.brightness, ImageEnhance.Brightness),
    "sharpness": (tones.sharpness, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENHANCED)
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.0, 1.6, 1.9, 4.96])
def test_enhanced_as_pillow(name: str, factor: float, kind: str) -> None:
    pixels_HWC = picture(kind)
    change, enhance = ENHANCED[name]
    found_BCHW = change(tensor_of(pixels_HWC), torch.full((1, 1, 1, 1), factor))
    expected = enhance(Image.fromarray(pixels_HWC)).enhance(factor)
    # Pillow rounds what it blends with, and cuts off the result: half a level, times the factor.
    assert differences(found_BCHW, expected).max() <= 1.01 + abs(1 - factor)


def test_each_image_has_an_amount_of_its_own() -> None:
    images_BCHW = torch.rand(3, 3, 6, 6)
    amounts_B111 = torch.tensor([0.2, 1.0, 1.8]).view(3, 1, 1, 1)
    for change, _ in ENHANCED.values():
        together_BCHW = change(images_BCHW, amounts_B111)
        for row in range(3):
            alone_BCHW = change(images_BCHW[row : row + 1], amounts_B111[row : row + 1])
            assert torch.allclose(together_BCHW[row], alone_BCHW[0], atol=1e-6)
    for without in (tones.autocontrast, tones.equalize):
        alone = torch.cat([without(image_CHW[None]) for image_CHW in images_BCHW])
        assert torch.allclose(without(images_BCHW), alone, atol=1e-6)
