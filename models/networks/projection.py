"""The projection head of SimCLRv2: for contrastive training, and for fine-tuning from inside it.

    head = ProjectionHead(network.head.in_features)
    projected_BP = head(network.features(images_BCHW))    # what contrastive training compares
    student = Projected(network, head, num_classes=10)    # what is fine-tuned on the labels

"Big self-supervised models are strong semi-supervised learners" (Chen et al. 2020), section 2;
google-research/simclr, model_util.py.
"""

from torch import Tensor, nn

from models.network import Network


class ProjectionHead(nn.Module):
    """Linear layers without biases, each with a batch norm.

    All but the last have a ReLU and the width of the features; the norm of the last has no shift.
    Of published weights, `load_projection` in models/state_dicts.py loads those of this head.
    """

    def __init__(self, width: int, outputs: int = 128, num_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            linear = nn.Linear(width, width, bias=False)
            layers += [linear, nn.BatchNorm1d(width), nn.ReLU()]
        last = nn.BatchNorm1d(outputs)
        last.register_parameter("bias", None)
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs, bias=False), last)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, features_BD: Tensor) -> Tensor:
        """What is compared, of shape (B, outputs)."""
        projected_BP: Tensor = self.layers(features_BD)
        return projected_BP

    def first(self, features_BD: Tensor) -> Tensor:
        """The features behind the first layer and its ReLU, of shape (B, D)."""
        projected_BD: Tensor = self.layers[:3](features_BD)
        return projected_BD


class Projected(Network):
    """A network whose features go through the first layer of a projection head.

    With few labels, fine-tuning from there is better than from the features (section 3.3); the
    original calls it `ft_proj_selector=1`. The head for the classes is new, and begins at zero.
    """

    HEAD = "classifier"

    def __init__(self, network: Network, projection: ProjectionHead, num_classes: int) -> None:
        super().__init__()
        width = network.head.in_features
        setattr(network, network.HEAD, nn.Identity())
        self.network = network
        self.projection = projection.layers[:3]
        self.classifier = nn.Linear(width, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The features of the network behind the first layer of its projection head, (B, D)."""
        features_BD: Tensor = self.projection(self.network.features(images_BCHW))
        return features_BD
