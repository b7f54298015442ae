"""Batches: logits that are plainly in the images, and a network that reads them there.

logits_BC = FirstPixels()(batch_of(logits_BC, [(0, 1, 1.0)]).images_BCHW)
"""

import torch
from torch import Tensor, nn

from tasks.train.augment_options import NO_CHANGES
from tasks.train.objectives import TensorBatch

CLASSES = ("blue", "green", "red")


class FirstPixels(nn.Module):
    """The red values of the first row."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW[:, 0, 0, : len(CLASSES)]


def batch_of(logits_BC: Tensor, pairs: list[tuple[int, int, float]]) -> TensorBatch:
    """A batch in which FirstPixels finds these logits; pairs are (row, class, weight)."""
    images_BCHW = torch.zeros(len(logits_BC), 3, 4, 4)
    images_BCHW[:, 0, 0, : len(CLASSES)] = logits_BC
    columns = zip(*pairs, strict=True) if pairs else ([], [], [])
    rows, classes, weights = map(list, columns)
    return TensorBatch(
        images_BCHW,
        torch.tensor(rows, dtype=torch.int64),
        torch.tensor(classes, dtype=torch.int64),
        torch.tensor(weights, dtype=torch.float32),
        NO_CHANGES,
    )
