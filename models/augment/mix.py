"""Mix: images and their targets with those of a random partner.

In: images_BCHW and targets_BC. Out: the same shapes; every target keeps its sum.

    images_BCHW, targets_BC = mix(images_BCHW, targets_BC, mixup_alpha=0.2, cutmix_alpha=1.0)
"""

import math

import torch
from torch import Tensor


def mix(
    images_BCHW: Tensor, targets_BC: Tensor, *, mixup_alpha: float = 0, cutmix_alpha: float = 0
) -> tuple[Tensor, Tensor]:
    """Mix a batch by the kind that is on; where both are, each is as likely as the other."""
    if mixup_alpha and cutmix_alpha:
        if torch.rand(()) < 0.5:
            return mixup(images_BCHW, targets_BC, mixup_alpha)
        return cutmix(images_BCHW, targets_BC, cutmix_alpha)
    if mixup_alpha:
        return mixup(images_BCHW, targets_BC, mixup_alpha)
    if cutmix_alpha:
        return cutmix(images_BCHW, targets_BC, cutmix_alpha)
    return images_BCHW, targets_BC


def mixup(images_BCHW: Tensor, targets_BC: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each image and its target with those of a random partner.

    The proportion comes from Beta(alpha, alpha) and is the same for the whole batch ("mixup",
    Zhang et al. 2018, equation 1).
    """
    proportion = _proportion(alpha)
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    images_BCHW = _blend(images_BCHW, images_BCHW[partner_B], proportion)
    return images_BCHW, _blend(targets_BC, targets_BC[partner_B], proportion)


def cutmix(images_BCHW: Tensor, targets_BC: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Replace a rectangle of each image by that of a random partner, and its share of the target.

    The rectangle has the share 1 - lambda of the area, lambda from Beta(alpha, alpha), and is the
    same for the whole batch ("CutMix", Yun et al. 2019, equations 1 and 2). What is cut off by the
    edge of the image counts in the targets, too.
    """
    height, width = images_BCHW.shape[2:]
    side = math.sqrt(1 - _proportion(alpha))
    y, x = torch.rand(2).tolist()
    top, bottom = _span(y, side, height)
    left, right = _span(x, side, width)
    partner_B = torch.randperm(len(images_BCHW)).to(images_BCHW.device)
    mixed_BCHW = images_BCHW.clone()
    mixed_BCHW[:, :, top:bottom, left:right] = images_BCHW[partner_B, :, top:bottom, left:right]
    proportion = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed_BCHW, _blend(targets_BC, targets_BC[partner_B], proportion)


def _proportion(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())


def _blend(first: Tensor, second: Tensor, proportion: float) -> Tensor:
    return proportion * first + (1 - proportion) * second


def _span(centre: float, share: float, size: int) -> tuple[int, int]:
    """The pixels of a side that a rectangle covers; the centre is a share of the side, too."""
    middle, half = int(centre * size), int(share * size) // 2
    return max(0, middle - half), min(size, middle + half)
