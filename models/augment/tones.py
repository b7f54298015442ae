"""Tones: changes of single pixels and of contours, as Pillow's ImageOps and ImageEnhance make them.

In: images_BCHW, float32 in [0, 1], and what to do to each, (B, 1, 1, 1). Out: the same shape and
range. What Pillow does to the 256 levels of a pixel is done here to the nearest of them; elsewhere
fractions of a level stay.

    images_BCHW = posterize(images_BCHW, bits_B111)
"""

import torch
from torch import Tensor
from torch.nn import functional

NUM_LEVELS = 256
TOP = NUM_LEVELS - 1  # the level of 1.0
HALF = NUM_LEVELS // 2
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def grey(images_BCHW: Tensor) -> Tensor:
    """The brightness of each pixel, (B, 1, H, W)."""
    red, green, blue = GREY_WEIGHTS
    return red * images_BCHW[:, :1] + green * images_BCHW[:, 1:2] + blue * images_BCHW[:, 2:]


def blend(below: Tensor, above: Tensor, factor_B111: Tensor) -> Tensor:
    """From `below` at 0 to `above` at 1 and beyond, within [0, 1]."""
    return torch.lerp(below, above, factor_B111).clamp_(0, 1)


def brightness(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """Multiply: 0 is black, 1 the image."""
    return (images_BCHW * factor_B111).clamp_(0, 1)


def contrast(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """0 is the mean brightness of the whole image, 1 the image."""
    mean_B111 = grey(images_BCHW).mean(dim=(2, 3), keepdim=True)
    return blend(mean_B111, images_BCHW, factor_B111)


def saturation(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """0 is grey, 1 the image; Pillow and RandAugment call it Color."""
    return blend(grey(images_BCHW), images_BCHW, factor_B111)


def sharpness(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """0 is smoothed, 1 the image, 2 sharpened. Pixels at the edge stay, as they do in Pillow."""
    if min(images_BCHW.shape[2:]) < 3:
        return images_BCHW
    inner_BCHW = images_BCHW[:, :, 1:-1, 1:-1]
    # The kernel is 1 around a 5, over 13.
    smooth_BCHW = (functional.avg_pool2d(images_BCHW, 3, stride=1) * 9 + 4 * inner_BCHW) / 13
    sharp_BCHW = images_BCHW.clone()
    sharp_BCHW[:, :, 1:-1, 1:-1] = blend(smooth_BCHW, inner_BCHW, factor_B111)
    return sharp_BCHW


def invert(images_BCHW: Tensor) -> Tensor:
    """The negative."""
    return 1 - images_BCHW


def solarize(images_BCHW: Tensor, threshold_B111: Tensor) -> Tensor:
    """Invert the levels from a threshold on; 256 inverts none."""
    return torch.where(_levels(images_BCHW) < threshold_B111, images_BCHW, 1 - images_BCHW)


def solarize_add(images_BCHW: Tensor, addition_B111: Tensor) -> Tensor:
    """Add so many levels to the darker half of them."""
    brighter_BCHW = (images_BCHW + addition_B111 / TOP).clamp_(0, 1)
    return torch.where(_levels(images_BCHW) < HALF, brighter_BCHW, images_BCHW)


def posterize(images_BCHW: Tensor, bits_B111: Tensor) -> Tensor:
    """Keep the highest bits of each level; 8 and more keep the image, 0 is black."""
    # Rounded, because a GPU's power of two may not be whole.
    step_B111 = torch.exp2(8 - bits_B111.clamp(0, 8)).round_()
    coarse_BCHW = (_levels(images_BCHW) / step_B111).floor_() * step_B111 / TOP
    return torch.where(bits_B111 < 8, coarse_BCHW, images_BCHW)


def autocontrast(images_BCHW: Tensor) -> Tensor:
    """Stretch each colour to the whole range; one that is the same everywhere stays."""
    low_BC11 = images_BCHW.amin(dim=(2, 3), keepdim=True)
    range_BC11 = images_BCHW.amax(dim=(2, 3), keepdim=True) - low_BC11
    stretched_BCHW = ((images_BCHW - low_BC11) / range_BC11).clamp_(0, 1)
    return torch.where(range_BC11 > 0, stretched_BCHW, images_BCHW)


def equalize(images_BCHW: Tensor) -> Tensor:
    """Make the levels of each colour equally frequent."""
    levels_NP = _levels(images_BCHW).long().flatten(2).flatten(0, 1)  # N colours of all images
    counts_NL = levels_NP.new_zeros(len(levels_NP), NUM_LEVELS)
    counts_NL.scatter_add_(1, levels_NP, torch.ones_like(levels_NP))
    highest_N1 = levels_NP.amax(dim=1, keepdim=True)
    # Pillow's rule: the highest level does not count in the step, and less than a step stays.
    step_N1 = (levels_NP.shape[1] - counts_NL.gather(1, highest_N1)) // TOP
    below_NL = counts_NL.cumsum(dim=1) - counts_NL
    table_NL = ((step_N1 // 2 + below_NL) // step_N1.clamp(min=1)).clamp_(max=TOP)
    equal_BCHW = table_NL.gather(1, levels_NP).view(images_BCHW.shape).float() / TOP
    can_be_BC11 = (step_N1 > 0).view(*images_BCHW.shape[:2], 1, 1)
    return torch.where(can_be_BC11, equal_BCHW, images_BCHW)


def _levels(images_BCHW: Tensor) -> Tensor:
    """The nearest of the 256 levels, as whole numbers in floating point."""
    return (images_BCHW * TOP).round_()
