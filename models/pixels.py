"""Pixels: what happens to images between the decoder and the network.

In: images_BHWC, uint8. Out: images_BCHW, float32, standardised.

    images_BCHW = standardise(to_unit(images_BHWC), mean_C, std_C)
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def to_unit(images_BHWC: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [0, 1]."""
    return images_BHWC.permute(0, 3, 1, 2).contiguous().float().div_(255)


def standardise(images_BCHW: Tensor, mean_C: Sequence[float], std_C: Sequence[float]) -> Tensor:
    """Subtract the mean of each colour and divide by its standard deviation.

    The result has the memory layout in which convolutions are fastest, as `channels_last` networks.
    """
    device = images_BCHW.device
    mean_1C11 = torch.tensor(list(mean_C), device=device).view(1, -1, 1, 1)
    std_1C11 = torch.tensor(list(std_C), device=device).view(1, -1, 1, 1)
    images_BCHW = (images_BCHW - mean_1C11) / std_1C11
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def channels_last(network: NetworkT) -> NetworkT:
    """The network in the memory layout of its inputs, in which convolutions are fastest."""
    # torch's own stubs leave out the argument that its documentation recommends.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
