"""Affine: rotation, translation, scale, shear and elastic deformation in one resampling.

In: images_BCHW. Out: the same shape. They are one resampling of the pixels, because a second one
would blur them again.

    images_BCHW = resample(images_BCHW, Affine(rotate_degrees=10, ...))
"""

import math
from dataclasses import astuple, dataclass

import torch
from torch import Tensor
from torch.nn import functional

CONTROL_POINTS = 4  # of the elastic deformation, along each side


@dataclass(frozen=True)
class Affine:
    """The largest change of each kind, in the units of `Augmentation`."""

    rotate_degrees: float
    translate: float
    scale: float
    shear: float
    elastic: float

    @property
    def is_on(self) -> bool:
        """Whether there is anything to change."""
        return any(astuple(self))


def resample(images_BCHW: Tensor, affine: Affine) -> Tensor:
    """New pixels between the old ones, on the device of the images."""
    batch, _, height, width = images_BCHW.shape
    matrices_B23 = _random_affine(batch, affine).to(images_BCHW.device)
    grid_BHW2 = functional.affine_grid(matrices_B23, [batch, 1, height, width], align_corners=False)
    if affine.elastic:
        control_B2KK = _random_control_points(batch, affine.elastic).to(images_BCHW.device)
        grid_BHW2 += _between(control_B2KK, height, width)
    return functional.grid_sample(
        images_BCHW,
        grid_BHW2,
        # Nothing is known of pixels outside; repeating the edge adds no new contours.
        padding_mode="border",
        align_corners=False,
    )


def _random_affine(batch: int, affine: Affine) -> Tensor:
    """Matrices (B, 2, 3) that rotate, shear, scale and translate by uniform random amounts."""
    uniform_B6 = torch.rand(batch, 6) * 2 - 1
    angle_B = uniform_B6[:, 0] * math.radians(affine.rotate_degrees)
    shear_B = uniform_B6[:, 1] * affine.shear
    # Uniform in the logarithm: shrinking and enlarging by the same factor are equally likely.
    log_scale = math.log1p(affine.scale)
    scale_x_B, scale_y_B = torch.exp(uniform_B6[:, 2:4] * log_scale).unbind(1)
    # Grid coordinates run from -1 to 1, so a share of the side is twice as much.
    shift_B2 = uniform_B6[:, 4:6] * 2 * affine.translate
    cos_B, sin_B = torch.cos(angle_B), torch.sin(angle_B)
    x_row_B3 = torch.stack(
        [scale_x_B * cos_B, scale_x_B * shear_B * cos_B - scale_y_B * sin_B, shift_B2[:, 0]], dim=1
    )
    y_row_B3 = torch.stack(
        [scale_x_B * sin_B, scale_x_B * shear_B * sin_B + scale_y_B * cos_B, shift_B2[:, 1]], dim=1
    )
    return torch.stack([x_row_B3, y_row_B3], dim=1)


def _random_control_points(batch: int, strength: float) -> Tensor:
    """Random shifts (B, 2, K, K) in grid coordinates, each image with its own strength.

    Elastic deformation is of "Best practices for convolutional neural networks" (Simard et al.
    2003, section 2). Here random shifts of a few control points are interpolated, instead of
    blurring a random shift of every pixel.
    """
    control_B2KK = torch.randn(batch, 2, CONTROL_POINTS, CONTROL_POINTS)
    return control_B2KK * torch.rand(batch, 1, 1, 1) * 2 * strength


def _between(control_B2KK: Tensor, height: int, width: int) -> Tensor:
    """Smooth shifts of every pixel, (B, H, W, 2)."""
    shifts_B2HW = functional.interpolate(
        control_B2KK, (height, width), mode="bicubic", align_corners=True
    )
    return shifts_B2HW.permute(0, 2, 3, 1)
