"""Blur: SimCLR's Gaussian blur.

In: images_BCHW. Out: nothing; they are changed in place.

    blur_(images_BCHW, probability=0.5)
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.augment.rows import change_rows_

MIN_SIGMA, MAX_SIGMA = 0.1, 2.0  # pixels


def blur_(images_BCHW: Tensor, probability: float) -> None:
    """Blur some images, each with a sigma of its own from U(0.1, 2) pixels.

    The kernel is a tenth of the side long, made odd: 23 at 224 pixels (SimCLR, Chen et al. 2020,
    appendix A; google-research/simclr, data_util.py: `gaussian_blur`, which draws one sigma for a
    batch and has black around the image; here its edge is repeated, so that no frame is darkened).
    """
    batch = len(images_BCHW)
    chosen_B = torch.rand(batch) < probability
    sigma_B = MIN_SIGMA + torch.rand(batch) * (MAX_SIGMA - MIN_SIGMA)
    change_rows_(images_BCHW, chosen_B, _blurred, sigma_B)


def _blurred(images_BCHW: Tensor, sigma_B111: Tensor) -> Tensor:
    batch, colours, height, width = images_BCHW.shape
    radius = min(height, width) // 10 // 2
    distance_K = torch.arange(-radius, radius + 1, device=images_BCHW.device)
    weights_BK = torch.exp(-(distance_K**2) / (2 * sigma_B111.view(-1, 1) ** 2))
    weights_BK = weights_BK / weights_BK.sum(dim=1, keepdim=True)
    # Every image has a kernel of its own, so all colours of all images are channels of one image.
    weights_NK = weights_BK.repeat_interleave(colours, dim=0)
    num_channels, size = weights_NK.shape
    channels_1NHW = images_BCHW.reshape(1, num_channels, height, width)
    padded_1NHW = functional.pad(channels_1NHW, [radius] * 4, mode="replicate")
    rows_N1K1 = weights_NK.view(num_channels, 1, size, 1)
    columns_N11K = weights_NK.view(num_channels, 1, 1, size)
    blurred_1NHW = functional.conv2d(padded_1NHW, rows_N1K1, groups=num_channels)
    blurred_1NHW = functional.conv2d(blurred_1NHW, columns_N11K, groups=num_channels)
    return blurred_1NHW.view(batch, colours, height, width).clamp_(0, 1)
