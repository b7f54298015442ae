"""Colour: SimCLR's colour jitter, and grey.

In: images_BCHW, float32 in [0, 1]. Out: nothing; they are changed in place, within [0, 1].

    jitter_(images_BCHW, strength=1.0)
    grey_(images_BCHW, probability=0.2)

The jitter is that of SimCLRv2 (google-research/simclr, data_util.py: `color_jitter_rand` with
impl="simclrv2"), which computes contrast and saturation as TensorFlow does and not as Pillow.
"""

import torch
from torch import Tensor

from models.augment import tones
from models.augment.rows import change_rows_

JITTER_PROBABILITY = 0.8
# The largest changes at strength 1.
FACTOR = 0.8  # of brightness, contrast and saturation, up and down from 1
TURN = 0.2  # of the hue, as a share of the colour circle


def jitter_(images_BCHW: Tensor, strength: float) -> None:
    """Change brightness, contrast, saturation and hue of most images, in an order of their own.

    With probability 0.8, factors of the first three from U(1 - 0.8 s, 1 + 0.8 s) and a turn of the
    hue from U(-0.2 s, 0.2 s), clipped to [0, 1] after each (SimCLR, Chen et al. 2020, appendix A).
    """
    batch = len(images_BCHW)
    chosen_B = torch.rand(batch) < JITTER_PROBABILITY
    uniform_B4 = torch.rand(batch, 4) * 2 - 1
    factors_B3 = (1 + uniform_B4[:, :3] * FACTOR * strength).clamp(min=0)
    parameters = (*factors_B3.unbind(1), uniform_B4[:, 3] * TURN * strength)
    changes = (tones.brightness, _contrast, _saturation, _hue)
    order_B4 = torch.rand(batch, 4).argsort(dim=1)
    for place_B in order_B4.unbind(1):
        for kind, (change, parameter_B) in enumerate(zip(changes, parameters, strict=True)):
            change_rows_(images_BCHW, chosen_B & (place_B == kind), change, parameter_B)


def grey_(images_BCHW: Tensor, probability: float) -> None:
    """Take the colour from some images."""
    chosen_B = torch.rand(len(images_BCHW)) < probability
    change_rows_(images_BCHW, chosen_B, _without_colour)


def _without_colour(images_BCHW: Tensor) -> Tensor:
    return tones.grey(images_BCHW).expand_as(images_BCHW)


def _contrast(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """Around the mean of each colour, as tf.image.adjust_contrast."""
    return tones.blend(images_BCHW.mean(dim=(2, 3), keepdim=True), images_BCHW, factor_B111)


def _saturation(images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """Multiply the saturation of HSV, at most to 1, as tf.image.adjust_saturation."""
    value_B1HW = images_BCHW.amax(dim=1, keepdim=True)
    saturation_B1HW = 1 - images_BCHW.amin(dim=1, keepdim=True) / value_B1HW.clamp(min=1e-6)
    # A colour is its value less something in proportion to its saturation.
    factor_B1HW = torch.minimum(factor_B111, 1 / saturation_B1HW.clamp(min=1e-6))
    return (value_B1HW - (value_B1HW - images_BCHW) * factor_B1HW).clamp_(0, 1)


def _hue(images_BCHW: Tensor, turn_B111: Tensor) -> Tensor:
    """Turn the hue of HSV by a share of the circle, as tf.image.adjust_hue."""
    value_B1HW = images_BCHW.amax(dim=1, keepdim=True)
    chroma_B1HW = value_B1HW - images_BCHW.amin(dim=1, keepdim=True)
    sixths_B1HW = _sixths(images_BCHW, value_B1HW, chroma_B1HW) + 6 * turn_B111
    # Red, green and blue of a hue: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    offsets_1311 = torch.tensor([5.0, 3.0, 1.0], device=images_BCHW.device).view(1, 3, 1, 1)
    distance_BCHW = (offsets_1311 + sixths_B1HW) % 6
    share_BCHW = torch.minimum(distance_BCHW, 4 - distance_BCHW).clamp_(0, 1)
    return (value_B1HW - chroma_B1HW * share_BCHW).clamp_(0, 1)


def _sixths(images_BCHW: Tensor, value_B1HW: Tensor, chroma_B1HW: Tensor) -> Tensor:
    """The hue in sixths of the circle, from red over green and blue; of grey pixels, anything."""
    red, green, blue = images_BCHW.split(1, dim=1)
    chroma_B1HW = chroma_B1HW.clamp(min=1e-6)
    return torch.where(
        value_B1HW == red,
        (green - blue) / chroma_B1HW,
        torch.where(
            value_B1HW == green,
            2 + (blue - red) / chroma_B1HW,
            4 + (red - green) / chroma_B1HW,
        ),
    )
