"""Exported: images for a model, its logits, and whether others are the same."""

import torch
from torch import Tensor

from tasks.export.check import TOLERANCE
from tasks.inference.model import Model


def images_of(found: Model, count: int, seed: int = 7) -> Tensor:
    size = found.description.inputs.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def logits_of(found: Model, images_BCHW: Tensor) -> Tensor:
    with torch.no_grad():
        logits_BC: Tensor = found.network(images_BCHW)
    return logits_BC


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
