"""augment: random changes to a whole batch of images at once, on the device that holds it.

In: images_BCHW, float32 in [0, 1]. Out: the same shape and range, each image changed in its own
random way.

    images_BCHW = augment(images_BCHW, Augmentation(flip=True, rotate_degrees=10, ...))
    images_BCHW, targets_BC = mix(images_BCHW, targets_BC, mixup_alpha=0.2)

Random numbers come from torch's global generator, on the CPU: some of each image, so that a seed
gives the same changes on every device. Grids, masks and pixels are computed on the device. A kind
that is off draws nothing and changes no bit.

change.py       the kinds in their order
affine.py       rotation, translation, scale, shear and elastic deformation, in one resampling
colour.py       colour jitter and grey, after SimCLR
blur.py         Gaussian blur, after SimCLR
randaugment.py  a few random operations of a list, in two published versions
tones.py        its operations on single pixels, as Pillow computes them
erase.py        squares that are filled
mix.py          mixup and cutmix, which change the targets, too
rows.py         a change of some images of a batch
"""

from models.augment.change import Augmentation, augment
from models.augment.mix import cutmix, mix, mixup
from models.augment.randaugment import VERSIONS, RandAugmentVersion

__all__ = [
    "VERSIONS",
    "Augmentation",
    "RandAugmentVersion",
    "augment",
    "cutmix",
    "mix",
    "mixup",
]
