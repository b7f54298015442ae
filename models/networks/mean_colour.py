"""Linear: the smallest network that trains, to measure everything that surrounds a network.

In: images_BCHW. Out: logits_BC, from nothing but the mean of each colour.
"""

from torch import Tensor, nn


class MeanColour(nn.Module):
    """The mean over pixels and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.fc(images_BCHW.float().mean(dim=(2, 3)))
        return logits_BC
