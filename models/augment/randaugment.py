"""RandAugment: a few random operations of a list, all with the same magnitude.

In: images_BCHW, float32 in [0, 1]. Out: nothing; they are changed in place, within [0, 1].

    randaugment_(images_BCHW, num_ops=2, magnitude=9, version="paper")

Each operation draws for each image which one it is, and a sign for those that have two directions
("RandAugment", Cubuk et al. 2020, figure 2). There are two published lists:

`paper`          the 14 of the paper. 30 reaches the largest changes of AutoAugment (Cubuk et al.
                 2019, table 6), 0 changes nothing, and changes grow in between, as in torchvision.
                 The code of the authors and timm reach them at 10: their 9 is 27 here.
`noisy_student`  the 16 of Noisy Student (google-research/noisystudent, randaugment.py), which
                 reach these at 10 and go on: 27 turns by 81 degrees. Some change less when the
                 magnitude grows, and with 0 they do not end: solarize and posterize do nothing from
                 20 on, and give a negative and black at 0. Cutout and translation are in pixels,
                 40 and 100 at 10, for sides of 224 and more; below, they shrink with the side.
                 Its authors raised the magnitude with the side: 6 at 260 pixels, 15 at 380, 27 at
                 600. Of 224 pixels, a translation at 27 leaves nothing.

Geometry interpolates (the sources take the nearest pixel) and fills with grey. Contrast is around
the mean of the image, where TensorFlow's version divides by the number of levels by mistake.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from models.augment import tones
from models.augment.erase import GREY, cutout
from models.augment.rows import change_rows_

RandAugmentVersion = Literal["paper", "noisy_student"]
VERSIONS: tuple[RandAugmentVersion, ...] = get_args(RandAugmentVersion)
PAPER_TOP = 30.0  # the magnitude of the largest changes
NOISY_STUDENT_TOP = 10.0
PIXELS_SIDE = 224  # from this side on, Noisy Student's pixels are taken as they are


@dataclass(frozen=True)
class Operation:
    """A change by an amount; with a spread, by `amount + spread` or `amount - spread`.

    `change` takes images (R, C, H, W) and the amounts (R, 1, 1, 1); one that `has_place` takes a
    random y and x, too; one without an amount takes images alone.
    """

    change: Callable[..., Tensor]
    amount: float | None = None
    spread: float = 0
    has_place: bool = False


def randaugment_(
    images_BCHW: Tensor, num_ops: int, magnitude: int, version: RandAugmentVersion
) -> None:
    """Do `num_ops` random operations to each image, one after the other; magnitude is 0 to 30."""
    operations = operations_of(version, magnitude, side=min(images_BCHW.shape[2:]))
    batch = len(images_BCHW)
    for _ in range(num_ops):
        drawn_B = torch.randint(len(operations), (batch,))
        sign_B = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0)
        place_B2 = torch.rand(batch, 2)
        for number, operation in enumerate(operations):
            parameters: list[Tensor] = []
            if operation.amount is not None:
                parameters.append(operation.amount + operation.spread * sign_B)
            if operation.has_place:
                parameters += place_B2.unbind(1)
            change_rows_(images_BCHW, drawn_B == number, operation.change, *parameters)


def operations_of(version: RandAugmentVersion, magnitude: int, side: int) -> Sequence[Operation]:
    """The list of a version at a magnitude, for images of this side in pixels."""
    if version == "paper":
        return _paper(magnitude / PAPER_TOP)
    return _noisy_student(magnitude / NOISY_STUDENT_TOP, 1 / max(side, PIXELS_SIDE))


def _paper(level: float) -> Sequence[Operation]:
    return (
        Operation(_same),
        Operation(tones.autocontrast),
        Operation(tones.equalize),
        Operation(rotate, 0, math.radians(30) * level),
        Operation(tones.solarize, tones.NUM_LEVELS * (1 - level)),
        Operation(tones.saturation, 1, 0.9 * level),
        Operation(tones.posterize, 8 - round(4 * level)),
        Operation(tones.contrast, 1, 0.9 * level),
        Operation(tones.brightness, 1, 0.9 * level),
        Operation(tones.sharpness, 1, 0.9 * level),
        Operation(shear_x, 0, 0.3 * level),
        Operation(shear_y, 0, 0.3 * level),
        Operation(translate_x, 0, 150 / 331 * level),
        Operation(translate_y, 0, 150 / 331 * level),
    )


def _noisy_student(level: float, pixel: float) -> Sequence[Operation]:
    """`pixel` is one as a share of the side."""
    enhanced = 0.1 + 1.8 * level
    return (
        Operation(tones.autocontrast),
        Operation(tones.equalize),
        Operation(tones.invert),
        Operation(rotate, 0, math.radians(30) * level),
        Operation(tones.posterize, int(4 * level)),
        Operation(tones.solarize, int(256 * level)),
        Operation(tones.saturation, enhanced),
        Operation(tones.contrast, enhanced),
        Operation(tones.brightness, enhanced),
        Operation(tones.sharpness, enhanced),
        Operation(shear_x, 0, 0.3 * level),
        Operation(shear_y, 0, 0.3 * level),
        Operation(translate_x, 0, 100 * level * pixel),
        Operation(translate_y, 0, 100 * level * pixel),
        Operation(tones.solarize_add, int(110 * level)),
        Operation(cutout, int(40 * level) * pixel, has_place=True),
    )


def rotate(images_BCHW: Tensor, angle_B111: Tensor) -> Tensor:
    """Rotate around the centre by angles in radians."""
    cos_B, sin_B, zero_B = angle_B111.cos(), angle_B111.sin(), torch.zeros_like(angle_B111)
    return _moved(images_BCHW, (cos_B, -sin_B, zero_B), (sin_B, cos_B, zero_B))


def shear_x(images_BCHW: Tensor, tangent_B111: Tensor) -> Tensor:
    """Shift each row in proportion to its distance from the top."""
    zero_B, one_B = torch.zeros_like(tangent_B111), torch.ones_like(tangent_B111)
    return _moved(images_BCHW, (one_B, tangent_B111, tangent_B111), (zero_B, one_B, zero_B))


def shear_y(images_BCHW: Tensor, tangent_B111: Tensor) -> Tensor:
    """Shift each column in proportion to its distance from the left."""
    zero_B, one_B = torch.zeros_like(tangent_B111), torch.ones_like(tangent_B111)
    return _moved(images_BCHW, (one_B, zero_B, zero_B), (tangent_B111, one_B, tangent_B111))


def translate_x(images_BCHW: Tensor, share_B111: Tensor) -> Tensor:
    """Shift by a share of the width, to the left if it is positive."""
    zero_B, one_B = torch.zeros_like(share_B111), torch.ones_like(share_B111)
    return _moved(images_BCHW, (one_B, zero_B, 2 * share_B111), (zero_B, one_B, zero_B))


def translate_y(images_BCHW: Tensor, share_B111: Tensor) -> Tensor:
    """Shift by a share of the height, upwards if it is positive."""
    zero_B, one_B = torch.zeros_like(share_B111), torch.ones_like(share_B111)
    return _moved(images_BCHW, (one_B, zero_B, zero_B), (zero_B, one_B, 2 * share_B111))


def _same(images_BCHW: Tensor) -> Tensor:
    return images_BCHW


def _moved(images_BCHW: Tensor, x_row: tuple[Tensor, ...], y_row: tuple[Tensor, ...]) -> Tensor:
    """Take each pixel from where the matrices say; grid coordinates run from -1 to 1."""
    rows_B6 = torch.cat([values_B111.flatten(1) for values_B111 in (*x_row, *y_row)], dim=1)
    grid_BHW2 = functional.affine_grid(
        rows_B6.view(-1, 2, 3), list(images_BCHW.shape), align_corners=False
    )
    # Outside is zero, so zero must be the grey that is filled in.
    moved_BCHW = functional.grid_sample(images_BCHW - GREY, grid_BHW2, align_corners=False)
    return (moved_BCHW + GREY).clamp_(0, 1)
