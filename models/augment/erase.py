"""Erase: fill a square of each image.

In: images_BCHW, and where the squares lie, as shares of the side. Out: the same shape.
"""

import torch
from torch import Tensor

GREY = 128 / 255  # what RandAugment fills with


def erase(images_BCHW: Tensor, max_side: float) -> Tensor:
    """Fill a random square of each image with the image's mean ("Cutout", DeVries 2017).

    `max_side` is the largest side of the square, as a share of the image's.
    """
    uniform_B3 = torch.rand(len(images_BCHW), 3)
    y_B, x_B = uniform_B3[:, 0], uniform_B3[:, 1]
    half_side_B = uniform_B3[:, 2] * max_side / 2
    squares = (values_B.to(images_BCHW.device) for values_B in (half_side_B, y_B, x_B))
    inside_B1HW = _inside(images_BCHW, *squares)
    return torch.where(inside_B1HW, images_BCHW.mean(dim=(2, 3), keepdim=True), images_BCHW)


def cutout(images_BCHW: Tensor, half_side_B: Tensor, y_B: Tensor, x_B: Tensor) -> Tensor:
    """Fill a square around (y, x) with grey, as the operation of RandAugment does."""
    return images_BCHW.masked_fill(_inside(images_BCHW, half_side_B, y_B, x_B), GREY)


def _inside(images_BCHW: Tensor, half_side_B: Tensor, y_B: Tensor, x_B: Tensor) -> Tensor:
    """Which pixels lie in the squares, (B, 1, H, W)."""
    height, width = images_BCHW.shape[2:]
    y_H = (torch.arange(height, device=images_BCHW.device) + 0.5) / height
    x_W = (torch.arange(width, device=images_BCHW.device) + 0.5) / width
    half_side_B1 = half_side_B.view(-1, 1)
    inside_y_BH = (y_H - y_B.view(-1, 1)).abs() <= half_side_B1
    inside_x_BW = (x_W - x_B.view(-1, 1)).abs() <= half_side_B1
    return inside_y_BH[:, None, :, None] & inside_x_BW[:, None, None, :]
