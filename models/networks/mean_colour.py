"""Mean colour: the smallest network that trains, to measure everything that surrounds a network.

In: images_BCHW. Out: logits_BC. The features are the mean of each colour over the pixels, D = 3.
"""

from torch import Tensor, nn

from models.network import Network


class MeanColour(Network):
    """The mean over pixels and a linear layer."""

    HEAD = "fc"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The mean of each colour, shape (B, 3)."""
        return images_BCHW.mean(dim=(2, 3))
