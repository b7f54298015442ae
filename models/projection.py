"""Projection: the layers between the features of a network and what a contrastive loss compares.

In: images_BCHW. Out: embeddings_BD. "Big self-supervised models" (SimCLRv2, Chen et al. 2020),
section 3: the head has three layers, and its first one is kept for fine-tuning.

    module = ProjectedNetwork(network, Projection(network.head.in_features, num_layers=3, size=128))
"""

from torch import Tensor, nn

from models.network import Network


class Projection(nn.Sequential):
    """Linear layers without biases, each with a batch norm, and ReLU between them.

    Hidden layers are as wide as the features. The last norm has no shift (model_util.py of
    google-research/simclr, projection_head).
    """

    def __init__(self, num_features: int, num_layers: int, size: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            layers += [nn.Linear(num_features, num_features, bias=False)]
            layers += [nn.BatchNorm1d(num_features), nn.ReLU(inplace=True)]
        last_norm = nn.BatchNorm1d(size)
        last_norm.register_parameter("bias", None)
        super().__init__(*layers, nn.Linear(num_features, size, bias=False), last_norm)


class ProjectedNetwork(nn.Module):
    """A network without its head, and a projection of its features."""

    def __init__(self, network: Network, projection: nn.Module) -> None:
        super().__init__()
        self.network, self.projection = network, projection
        # Processes wait for a gradient of every parameter that has one.
        network.head.requires_grad_(False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings_BD of images_BCHW."""
        embeddings_BD: Tensor = self.projection(self.network.features(images_BCHW))
        return embeddings_BD
