"""Augmentation: which random changes a step of a training makes.

In: the options, and the step and the virtual rank. Out: the kinds of changes to whole batches, and
the seed of their random numbers.

    torch.manual_seed(step_seed(options.seed, step, rank))
    images_BCHW = augment(images_BCHW, augmentation_of(options.augment))
"""

from typing import Any

from torch import Tensor

from models.augment import Augmentation, mix
from tasks.train.augment_options import Augment
from tasks.train.options import MAX_VIRTUAL_RANKS

# Made when an image is cropped, and by the objective, which has the targets.
ELSEWHERE = {"crop_min_area", "mixup", "cutmix", "off_at_end"}


def augmentation_of(options: Augment) -> Augmentation:
    """The changes that are made to a whole batch of images."""
    values: dict[str, Any] = options.model_dump(exclude=ELSEWHERE)
    return Augmentation(**values)


def mix_batch(images_BCHW: Tensor, targets_BC: Tensor, options: Augment) -> tuple[Tensor, Tensor]:
    """Images and targets mixed among themselves, where the options say so."""
    return mix(images_BCHW, targets_BC, mixup_alpha=options.mixup, cutmix_alpha=options.cutmix)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all random numbers of a virtual rank in a step."""
    # Any fixed mix that keeps them apart will do; torch scrambles it.
    return (seed * 1_000_003 + step) * MAX_VIRTUAL_RANKS + rank
