"""The projection head of SimCLRv2: for contrastive training, and for fine-tuning from inside it.

    head = ProjectionHead(network.head.in_features)
    contrastive = ContrastiveNetwork(network, head)       # (B, 3, H, W) -> (B, outputs)
    student = ProjectedNetwork(network, num_classes=10)   # what is fine-tuned on the labels
    student.start_from(head.state_dict())

"Big self-supervised models are strong semi-supervised learners" (Chen et al. 2020), section 2;
google-research/simclr, model_util.py. With few labels, fine-tuning from the first layer of the head
is better than from the features (section 3.3); the original calls it `ft_proj_selector=1`.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from models.network import Network

LAYERS = "layers."  # before the number of a layer, in the keys of a projection head


class ProjectionHead(nn.Module):
    """Linear layers without biases, each with a batch norm.

    All but the last have a ReLU and the width of the features; the norm of the last has no shift.
    Of published weights, `load_projection` in models/state_dicts.py loads those of this head.
    """

    def __init__(self, width: int, outputs: int = 128, num_layers: int = 3) -> None:
        super().__init__()
        hidden = [layer for _ in range(num_layers - 1) for layer in _hidden_layer(width)]
        last = nn.BatchNorm1d(outputs)
        last.register_parameter("bias", None)
        self.layers = nn.Sequential(*hidden, nn.Linear(width, outputs, bias=False), last)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, features_BD: Tensor) -> Tensor:
        """What is compared, of shape (B, outputs)."""
        projected_BP: Tensor = self.layers(features_BD)
        return projected_BP


class ContrastiveNetwork(nn.Module):
    """A network with a projection in place of its head: images_BCHW to embeddings (B, outputs)."""

    def __init__(self, network: Network, projection: ProjectionHead) -> None:
        super().__init__()
        self.network, self.projection = network, projection
        # Processes wait for a gradient of every parameter that has one.
        network.head.requires_grad_(False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """The embeddings of images."""
        embeddings_BP: Tensor = self.projection(self.network.features(images_BCHW))
        return embeddings_BP


class ProjectedNetwork(Network):
    """A network whose features go through a first layer of a projection head.

    It takes the place of the network's own head, which is gone; the head for the classes is new.
    """

    HEAD = "classifier"

    def __init__(self, network: Network, num_classes: int) -> None:
        super().__init__()
        width = network.head.in_features
        setattr(network, network.HEAD, nn.Identity())
        self.network = network
        self.projection = nn.Sequential(*_hidden_layer(width))
        self.classifier = nn.Linear(width, num_classes)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The features of the network behind the projection, (B, D)."""
        features_BD: Tensor = self.projection(self.network.features(images_BCHW))
        return features_BD

    def start_from(self, head: Mapping[str, Tensor]) -> None:
        """Take over the first layer of a projection head, of two layers or more.

        Raises ValueError where it does not fit.
        """
        first = {
            key.removeprefix(LAYERS): tensor
            for key, tensor in head.items()
            if key.startswith((f"{LAYERS}0.", f"{LAYERS}1."))
        }
        try:
            self.projection.load_state_dict(first)
        except RuntimeError as error:
            raise ValueError(
                "the first layer of the projection head does not fit: it is of a network with "
                "other features, or the only layer"
            ) from error

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """Those of the network."""
        return self.network.last_norms()


def _hidden_layer(width: int) -> list[nn.Module]:
    return [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
