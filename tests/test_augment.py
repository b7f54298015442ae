"""Augmentation: off changes no bit, the seed decides, images stay apart, sources' formulas."""

import colorsys
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.augment import VERSIONS, Augmentation, augment
from models.augment.blur import blur_
from models.augment.colour import grey_, jitter_
from models.augment.erase import GREY, cutout
from models.augment.rows import change_rows_

OFF = Augmentation(False, 0, 0, 0, 0, 0, 0)
KINDS: dict[str, dict[str, Any]] = {
    "flip": {"flip": True},
    "rotate": {"rotate_degrees": 30},
    "translate": {"translate": 0.2},
    "scale": {"scale": 0.3},
    "shear": {"shear": 0.3},
    "elastic": {"elastic": 0.1},
    "erase": {"erase": 0.5},
    "colour": {"colour": 1},
    "grey": {"grey": 0.5},
    "blur": {"blur": 0.5},
    **{
        version: {
            "randaugment_ops": 2,
            "randaugment_magnitude": 9,
            "randaugment_version": version,
        }
        for version in VERSIONS
    },
}
EVERYTHING = replace(
    OFF, **{name: value for kind in KINDS.values() for name, value in kind.items()}
)


def noise(batch: int = 24, side: int = 24) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(11))


def changed(images_BCHW: Tensor, augmentation: Augmentation, seed: int = 5) -> Tensor:
    torch.manual_seed(seed)
    return augment(images_BCHW, augmentation)


def test_off_changes_no_bit_and_draws_nothing() -> None:
    images_BCHW = noise()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(augment(images_BCHW, OFF), images_BCHW)
    strong = replace(OFF, randaugment_magnitude=30, randaugment_version="noisy_student")
    assert torch.equal(augment(images_BCHW, strong), images_BCHW), "no operation was asked for"
    assert torch.equal(torch.get_rng_state(), state)


def test_older_kinds_draw_what_they_always_drew() -> None:
    """The draws of the demo of digits; its figures are those of this order."""
    torch.manual_seed(7)
    augment(noise(9), Augmentation(True, 15, 0.1, 0.22, 0.27, 0.06, 0.2))
    found = float(torch.rand(()))
    torch.manual_seed(7)
    torch.rand(9, 6), torch.randn(9, 2, 4, 4), torch.rand(9, 1, 1, 1), torch.rand(9)
    torch.rand(9, 3)
    assert found == float(torch.rand(()))


@pytest.mark.parametrize("kind", [*KINDS, "everything"])
def test_the_seed_decides_and_shape_and_range_are_kept(kind: str) -> None:
    augmentation = replace(OFF, **KINDS[kind]) if kind in KINDS else EVERYTHING
    images_BCHW = noise()
    kept_BCHW = images_BCHW.clone()
    first_BCHW = changed(images_BCHW, augmentation)
    assert torch.equal(images_BCHW, kept_BCHW), "the given images stay as they are"
    assert torch.equal(changed(images_BCHW, augmentation), first_BCHW)
    assert not torch.equal(changed(images_BCHW, augmentation, seed=6), first_BCHW)
    assert not torch.equal(first_BCHW, images_BCHW)
    assert first_BCHW.shape == images_BCHW.shape
    assert first_BCHW.dtype == torch.float32
    assert first_BCHW.min() >= 0
    assert first_BCHW.max() <= 1


@pytest.mark.parametrize("kind", [*KINDS, "everything"])
def test_an_image_does_not_depend_on_the_pixels_of_its_neighbours(kind: str) -> None:
    augmentation = replace(OFF, **KINDS[kind]) if kind in KINDS else EVERYTHING
    images_BCHW = noise()
    others_BCHW = images_BCHW.flip(0)
    others_BCHW[::2] = images_BCHW[::2]
    first_BCHW, second_BCHW = (
        changed(batch_BCHW, augmentation) for batch_BCHW in (images_BCHW, others_BCHW)
    )
    assert torch.equal(first_BCHW[::2], second_BCHW[::2])


def test_a_virtual_rank_gives_the_same_alone_and_after_others() -> None:
    shares = noise(48).split(12)
    after = [changed(share, EVERYTHING, seed) for seed, share in enumerate(shares)]
    for seed in reversed(range(4)):
        assert torch.equal(changed(shares[seed], EVERYTHING, seed), after[seed])


class LargestOnCpu(TorchDispatchMode):
    """How many numbers the largest tensor has that an operation has made on the CPU."""

    numel = 0

    def __torch_dispatch__(
        self, function: Any, _: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor) and made.device.type == "cpu":
                self.numel = max(self.numel, made.numel())
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_few_numbers_of_each_image_are_made_on_the_cpu(kind: str) -> None:
    """The images are on a device without memory, which takes part in no operation of the CPU."""
    batch = 24
    with LargestOnCpu() as largest:  # type: ignore[no-untyped-call]  # torch has no types here
        found_BCHW = augment(
            torch.empty(batch, 3, 224, 224, device="meta"), replace(OFF, **KINDS[kind])
        )
    assert found_BCHW.device.type == "meta"
    assert 0 < largest.numel <= batch * 32


def test_images_are_changed_differently() -> None:
    same_BCHW = noise(1).expand(64, -1, -1, -1)
    for kind in ("rotate", "elastic", "colour", *VERSIONS):
        found = {
            hashlib.sha256(image.numpy().tobytes()).hexdigest()
            for image in changed(same_BCHW, replace(OFF, **KINDS[kind]))
        }
        assert len(found) > 16, kind


@pytest.mark.parametrize(
    ("change_", "probability"),
    [
        (lambda images: grey_(images, 0.2), 0.2),
        (lambda images: blur_(images, 0.5), 0.5),
        (lambda images: jitter_(images, 1), 0.8),
    ],
)
def test_a_kind_changes_its_share_of_the_images(
    change_: Callable[[Tensor], None], probability: float
) -> None:
    torch.manual_seed(0)
    images_BCHW = noise(1).repeat(2000, 1, 1, 1)
    before_BCHW = images_BCHW.clone()
    change_(images_BCHW)
    share = (images_BCHW != before_BCHW).flatten(1).any(dim=1).float().mean()
    assert float(share) == pytest.approx(probability, abs=0.04)


def test_rows_that_were_not_chosen_stay() -> None:
    images_BCHW = noise(4)
    before_BCHW = images_BCHW.clone()
    chosen_B = torch.tensor([True, False, True, False])
    change_rows_(images_BCHW, chosen_B, torch.mul, torch.tensor([0.0, 1.0, 0.5, 1.0]))
    assert torch.equal(images_BCHW[1::2], before_BCHW[1::2])
    assert not images_BCHW[0].any()
    assert torch.equal(images_BCHW[2], before_BCHW[2] / 2)


def test_grey_is_the_luma_of_pillow() -> None:
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    images_BCHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None].float() / 255
    grey_(images_BCHW, 1)
    expected_HW = np.asarray(Image.fromarray(pixels_HWC).convert("L"), np.float32)
    for channel_HW in images_BCHW[0]:
        assert np.abs(channel_HW.numpy() * 255 - expected_HW).max() <= 1


@pytest.mark.parametrize("side", [64, 224])
def test_blur_is_gaussian(side: int) -> None:
    """A kernel of a tenth of the side leaves out the tails; against Pillow's blur of boxes."""
    smooth_HWC = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(smooth_HWC).resize((side, side), Image.Resampling.BICUBIC)
    images_BCHW = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    torch.manual_seed(3)
    torch.rand(1)
    sigma = 0.1 + 1.9 * float(torch.rand(1))
    torch.manual_seed(3)
    blur_(images_BCHW, 1)
    expected_HWC = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    found_HWC = images_BCHW[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found_HWC - expected_HWC).max() <= 3


def test_blur_keeps_the_sum_of_a_point() -> None:
    point_BCHW = torch.zeros(8, 3, 224, 224)
    point_BCHW[:, :, 112, 112] = 1
    blur_(point_BCHW, 1)
    assert torch.allclose(point_BCHW.sum(dim=(2, 3)), torch.ones(8, 3), atol=1e-5)
    rows, columns = point_BCHW.sum(dim=(0, 1)).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) <= 22, "the kernel has 23 pixels"
    assert int(columns.max() - columns.min()) <= 22


def hsv_jitter(pixel: list[float], kind: int, amount: float) -> list[float]:
    """Saturation (2) and hue (3) of one pixel by Python's own conversion."""
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    if kind == 2:
        return list(colorsys.hsv_to_rgb(hue, min(1.0, saturation * amount), value))
    return list(colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_jitter_is_that_of_simclr(strength: float) -> None:
    """Brightness by a factor, contrast around the mean of each colour, HSV; in any order."""
    batch = 6
    images_BCHW = noise(batch, side=5)
    torch.manual_seed(9)
    chosen_B = (torch.rand(batch) < 0.8).tolist()
    uniform_B4 = torch.rand(batch, 4) * 2 - 1
    orders = torch.rand(batch, 4).argsort(dim=1).tolist()
    torch.manual_seed(9)
    found_BCHW = images_BCHW.clone()
    jitter_(found_BCHW, strength)

    assert len({tuple(order) for order in orders}) > 1
    assert any(chosen_B)
    for row in range(batch):
        image_CHW = images_BCHW[row].double()
        for kind in orders[row] if chosen_B[row] else []:
            drawn = float(uniform_B4[row, kind])
            amount = drawn * 0.2 * strength if kind == 3 else 1 + drawn * 0.8 * strength
            if kind == 0:
                image_CHW = image_CHW * amount
            elif kind == 1:
                mean_C11 = image_CHW.mean(dim=(1, 2), keepdim=True)
                image_CHW = (image_CHW - mean_C11) * amount + mean_C11
            else:
                pixels = image_CHW.flatten(1).T.tolist()
                turned = [hsv_jitter(pixel, kind, amount) for pixel in pixels]
                image_CHW = torch.tensor(turned, dtype=torch.float64).T.view(3, 5, 5)
            image_CHW = image_CHW.clamp(0, 1)
        assert torch.allclose(found_BCHW[row].double(), image_CHW, atol=1e-5), row


def test_cutout_fills_a_square_around_a_place() -> None:
    images_BCHW = torch.zeros(1, 3, 20, 20)
    one = torch.ones(1)
    found_BCHW = cutout(images_BCHW, one * 0.2, one * 0.5, one * 0.1)
    rows, columns = (found_BCHW[0, 0] == torch.tensor(GREY)).nonzero().unbind(1)
    assert sorted(set(rows.tolist())) == list(range(6, 14))
    assert sorted(set(columns.tolist())) == list(range(6)), "it is cut off at the edge"
