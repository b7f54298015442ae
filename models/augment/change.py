"""Change: all kinds of random changes to images, in their order.

In: images_BCHW, float32 in [0, 1]. Out: the same shape and range.

    images_BCHW = augment(images_BCHW, Augmentation(flip=True, rotate_degrees=10, ...))
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.augment.affine import Affine, resample
from models.augment.blur import blur_
from models.augment.colour import grey_, jitter_
from models.augment.erase import erase
from models.augment.randaugment import RandAugmentVersion, randaugment_
from models.augment.rows import change_rows_


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; 0 switches a kind off.

    `translate`, `elastic` and `erase` are shares of the side, `scale` is a share of the size, and
    `shear` is a tangent. `colour` is a strength (colour.py); `grey` and `blur` are probabilities.
    """

    flip: bool
    rotate_degrees: float
    translate: float
    scale: float
    shear: float
    elastic: float
    erase: float
    colour: float = 0
    grey: float = 0
    blur: float = 0
    randaugment_ops: int = 0
    randaugment_magnitude: int = 0
    randaugment_version: RandAugmentVersion = "paper"

    @property
    def affine(self) -> Affine:
        """What needs new pixels between the old ones."""
        return Affine(self.rotate_degrees, self.translate, self.scale, self.shear, self.elastic)

    @property
    def is_in_place(self) -> bool:
        """Whether some images are changed where they lie."""
        return any((self.flip, self.randaugment_ops, self.colour, self.grey, self.blur))


def augment(images_BCHW: Tensor, augmentation: Augmentation) -> Tensor:
    """Change each image in its own random way; the given images stay as they are.

    Geometry comes first, as everything else belongs to what the network sees: a blur is of its
    pixels, and an erased square is not turned.
    """
    if augmentation.affine.is_on:
        images_BCHW = resample(images_BCHW, augmentation.affine)
    elif augmentation.is_in_place:
        images_BCHW = images_BCHW.clone()
    if augmentation.flip:
        change_rows_(images_BCHW, torch.rand(len(images_BCHW)) < 0.5, _mirror)
    if augmentation.randaugment_ops:
        randaugment_(
            images_BCHW,
            augmentation.randaugment_ops,
            augmentation.randaugment_magnitude,
            augmentation.randaugment_version,
        )
    if augmentation.colour:
        jitter_(images_BCHW, augmentation.colour)
    if augmentation.grey:
        grey_(images_BCHW, augmentation.grey)
    if augmentation.blur:
        blur_(images_BCHW, augmentation.blur)
    if augmentation.erase:
        images_BCHW = erase(images_BCHW, augmentation.erase)
    return images_BCHW


def _mirror(images_RCHW: Tensor) -> Tensor:
    return images_RCHW.flip(3)
