"""Augment: random changes to a whole batch of images at once, on the device where it lies.

In: images_BCHW, float32. Out: the same shape, each image changed in its own random way. Rotation,
shift, scale, shear and a smooth elastic bend are one resampling of the pixels, because a second
one would blur them again. Random numbers come from torch's global generator, on the CPU, so that
a seed gives the same changes on every device.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CONTROL_POINTS = 4  # of the elastic bend, along each side


@dataclass(frozen=True)
class Strengths:
    """The largest change of each kind; 0 switches a kind off."""

    flip: bool
    rotate_degrees: float
    translate: float
    scale: float
    shear: float
    elastic: float
    erase: float

    @property
    def bends(self) -> bool:
        """Whether pixels move at all, other than by mirroring."""
        moves = (self.rotate_degrees, self.translate, self.scale, self.shear, self.elastic)
        return any(moves)


def augment(images_BCHW: Tensor, strengths: Strengths) -> Tensor:
    """Change each image in its own random way."""
    if strengths.bends:
        images_BCHW = _resample(images_BCHW, strengths)
    if strengths.flip:
        chosen_B111 = (torch.rand(len(images_BCHW)) < 0.5).view(-1, 1, 1, 1)
        mirrored_BCHW = images_BCHW.flip(3)
        images_BCHW = torch.where(chosen_B111.to(images_BCHW.device), mirrored_BCHW, images_BCHW)
    if strengths.erase:
        images_BCHW = _erase(images_BCHW, strengths.erase)
    return images_BCHW


def mix(images_BCHW: Tensor, targets_BC: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Each image and target mixed with another one's, all in the same random proportion.

    The proportion comes from Beta(alpha, alpha) ("mixup", Zhang et al. 2018, equation 1).
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    images_BCHW = share * images_BCHW + (1 - share) * images_BCHW[partner_B]
    return images_BCHW, share * targets_BC + (1 - share) * targets_BC[partner_B]


def _resample(images_BCHW: Tensor, strengths: Strengths) -> Tensor:
    batch, _, height, width = images_BCHW.shape
    matrices_B23 = _random_affine(batch, strengths)
    grid_BHW2 = functional.affine_grid(matrices_B23, [batch, 1, height, width], align_corners=False)
    if strengths.elastic:
        grid_BHW2 = grid_BHW2 + _random_bend(batch, height, width, strengths.elastic)
    return functional.grid_sample(
        images_BCHW,
        grid_BHW2.to(images_BCHW.device),
        # What lies outside is unknown; repeating the edge invents the least.
        padding_mode="border",
        align_corners=False,
    )


def _random_affine(batch: int, strengths: Strengths) -> Tensor:
    """Matrices (B, 2, 3) that turn, shear, scale and shift, each by a uniform random amount."""
    uniform_B6 = torch.rand(batch, 6) * 2 - 1
    angle_B = uniform_B6[:, 0] * math.radians(strengths.rotate_degrees)
    shear_B = uniform_B6[:, 1] * strengths.shear
    # Uniform in the logarithm: shrinking and enlarging by the same factor are equally likely.
    scale_x_B, scale_y_B = torch.exp(uniform_B6[:, 2:4] * math.log1p(strengths.scale)).unbind(1)
    # Grid coordinates run from -1 to 1, so a share of the side is twice as much.
    shift_B2 = uniform_B6[:, 4:6] * 2 * strengths.translate
    cos_B, sin_B = torch.cos(angle_B), torch.sin(angle_B)
    first_B3 = torch.stack(
        [scale_x_B * cos_B, scale_x_B * shear_B * cos_B - scale_y_B * sin_B, shift_B2[:, 0]], dim=1
    )
    second_B3 = torch.stack(
        [scale_x_B * sin_B, scale_x_B * shear_B * sin_B + scale_y_B * cos_B, shift_B2[:, 1]], dim=1
    )
    return torch.stack([first_B3, second_B3], dim=1)


def _random_bend(batch: int, height: int, width: int, strength: float) -> Tensor:
    """Smooth random shifts (B, H, W, 2) in grid coordinates, each image with its own strength."""
    control_B2KK = torch.randn(batch, 2, CONTROL_POINTS, CONTROL_POINTS)
    control_B2KK = control_B2KK * torch.rand(batch, 1, 1, 1) * 2 * strength
    bend_B2HW = functional.interpolate(
        control_B2KK, (height, width), mode="bicubic", align_corners=True
    )
    return bend_B2HW.permute(0, 2, 3, 1)


def _erase(images_BCHW: Tensor, share: float) -> Tensor:
    """Fill a random square of each image with the image's mean ("Cutout", DeVries 2017)."""
    batch, _, height, width = images_BCHW.shape
    uniform_B3 = torch.rand(batch, 3)
    half_B1 = uniform_B3[:, 2:3] * share / 2
    y_H = (torch.arange(height) + 0.5) / height
    x_W = (torch.arange(width) + 0.5) / width
    inside_y_BH = (y_H - uniform_B3[:, 0:1]).abs() <= half_B1
    inside_x_BW = (x_W - uniform_B3[:, 1:2]).abs() <= half_B1
    inside_B1HW = (inside_y_BH[:, None, :, None] & inside_x_BW[:, None, None, :]).to(
        images_BCHW.device
    )
    return torch.where(inside_B1HW, images_BCHW.mean(dim=(2, 3), keepdim=True), images_BCHW)
