"""Augment: random changes to a whole batch of images at once, on the device that holds it.

In: images_BCHW, float32. Out: the same shape, each image changed in its own random way.

    images_BCHW = augment(images_BCHW, Augmentation(flip=True, rotate_degrees=10, ...))
    images_BCHW, targets_BC = mixup(images_BCHW, targets_BC, alpha=0.2)

Rotation, translation, scale, shear and elastic deformation are one resampling of the pixels,
because a second one would blur them again. Random numbers come from torch's global generator, on
the CPU, so that a seed gives the same changes on every device.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CONTROL_POINTS = 4  # of the elastic deformation, along each side


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; 0 switches a kind off.

    `translate`, `elastic` and `erase` are shares of the side, `scale` is a share of the size, and
    `shear` is a tangent.
    """

    flip: bool
    rotate_degrees: float
    translate: float
    scale: float
    shear: float
    elastic: float
    erase: float

    @property
    def resamples(self) -> bool:
        """Whether any change needs new pixels between the old ones; a flip does not."""
        return any((self.rotate_degrees, self.translate, self.scale, self.shear, self.elastic))


def augment(images_BCHW: Tensor, augmentation: Augmentation) -> Tensor:
    """Change each image in its own random way."""
    if augmentation.resamples:
        images_BCHW = _resample(images_BCHW, augmentation)
    if augmentation.flip:
        flipped_B111 = (torch.rand(len(images_BCHW)) < 0.5).view(-1, 1, 1, 1)
        mirrored_BCHW = images_BCHW.flip(3)
        images_BCHW = torch.where(flipped_B111.to(images_BCHW.device), mirrored_BCHW, images_BCHW)
    if augmentation.erase:
        images_BCHW = _erase(images_BCHW, augmentation.erase)
    return images_BCHW


def mixup(images_BCHW: Tensor, targets_BC: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with those of a random partner.

    The proportion comes from Beta(alpha, alpha) and is the same for the whole batch ("mixup",
    Zhang et al. 2018, equation 1).
    """
    proportion = float(torch.distributions.Beta(alpha, alpha).sample())
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    images_BCHW = proportion * images_BCHW + (1 - proportion) * images_BCHW[partner_B]
    return images_BCHW, proportion * targets_BC + (1 - proportion) * targets_BC[partner_B]


def _resample(images_BCHW: Tensor, augmentation: Augmentation) -> Tensor:
    batch, _, height, width = images_BCHW.shape
    matrices_B23 = _random_affine(batch, augmentation)
    grid_BHW2 = functional.affine_grid(matrices_B23, [batch, 1, height, width], align_corners=False)
    if augmentation.elastic:
        grid_BHW2 = grid_BHW2 + _random_elastic(batch, height, width, augmentation.elastic)
    return functional.grid_sample(
        images_BCHW,
        grid_BHW2.to(images_BCHW.device),
        # Nothing is known of pixels outside; repeating the edge adds no new contours.
        padding_mode="border",
        align_corners=False,
    )


def _random_affine(batch: int, augmentation: Augmentation) -> Tensor:
    """Matrices (B, 2, 3) that rotate, shear, scale and translate by uniform random amounts."""
    uniform_B6 = torch.rand(batch, 6) * 2 - 1
    angle_B = uniform_B6[:, 0] * math.radians(augmentation.rotate_degrees)
    shear_B = uniform_B6[:, 1] * augmentation.shear
    # Uniform in the logarithm: shrinking and enlarging by the same factor are equally likely.
    log_scale = math.log1p(augmentation.scale)
    scale_x_B, scale_y_B = torch.exp(uniform_B6[:, 2:4] * log_scale).unbind(1)
    # Grid coordinates run from -1 to 1, so a share of the side is twice as much.
    shift_B2 = uniform_B6[:, 4:6] * 2 * augmentation.translate
    cos_B, sin_B = torch.cos(angle_B), torch.sin(angle_B)
    x_row_B3 = torch.stack(
        [scale_x_B * cos_B, scale_x_B * shear_B * cos_B - scale_y_B * sin_B, shift_B2[:, 0]], dim=1
    )
    y_row_B3 = torch.stack(
        [scale_x_B * sin_B, scale_x_B * shear_B * sin_B + scale_y_B * cos_B, shift_B2[:, 1]], dim=1
    )
    return torch.stack([x_row_B3, y_row_B3], dim=1)


def _random_elastic(batch: int, height: int, width: int, strength: float) -> Tensor:
    """Smooth random shifts (B, H, W, 2) in grid coordinates, each image with its own strength.

    Elastic deformation is of "Best practices for convolutional neural networks" (Simard et al.
    2003, section 2). Here random shifts of a few control points are interpolated, instead of
    blurring a random shift of every pixel.
    """
    control_B2KK = torch.randn(batch, 2, CONTROL_POINTS, CONTROL_POINTS)
    control_B2KK = control_B2KK * torch.rand(batch, 1, 1, 1) * 2 * strength
    shifts_B2HW = functional.interpolate(
        control_B2KK, (height, width), mode="bicubic", align_corners=True
    )
    return shifts_B2HW.permute(0, 2, 3, 1)


def _erase(images_BCHW: Tensor, max_side: float) -> Tensor:
    """Fill a random square of each image with the image's mean ("Cutout", DeVries 2017).

    `max_side` is the largest side of the square, as a share of the image's.
    """
    batch, _, height, width = images_BCHW.shape
    uniform_B3 = torch.rand(batch, 3)
    half_side_B1 = uniform_B3[:, 2:3] * max_side / 2
    y_H = (torch.arange(height) + 0.5) / height
    x_W = (torch.arange(width) + 0.5) / width
    inside_y_BH = (y_H - uniform_B3[:, 0:1]).abs() <= half_side_B1
    inside_x_BW = (x_W - uniform_B3[:, 1:2]).abs() <= half_side_B1
    inside_B1HW = (inside_y_BH[:, None, :, None] & inside_x_BW[:, None, None, :]).to(
        images_BCHW.device
    )
    return torch.where(inside_B1HW, images_BCHW.mean(dim=(2, 3), keepdim=True), images_BCHW)
