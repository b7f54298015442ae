"""Pinned: host memory from which a GPU copies by itself, while the processor goes on.

In: the device of a training. Out: arrays to fill, and their copies on the device. On a device that
is not CUDA, these are ordinary arrays and copies.

    pixels_BHWC = new_pixels((256, 224, 224, 3), device)
    images_BHWC = to_device(pixels_BHWC, device)

A buffer is filled once and let go, never filled again. torch keeps its memory to itself until the
copies from it are done: it knows them by the address, so the array need not outlive them. A copy
from ordinary memory would wait until the GPU has done all its work.
"""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from tasks.images import Pixels


def new_pixels(shape: tuple[int, ...], device: torch.device) -> Pixels:
    """Pixels to be filled, pinned for a CUDA device."""
    is_pinned = device.type == "cuda"
    pixels: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned).numpy()
    return pixels


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """A tensor on the device; on CUDA it is there when the work that is queued next begins.

    What is pinned already is not pinned again.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
