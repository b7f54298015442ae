"""Network: images to features, features to logits.

    features_BD = network.features(images_BCHW)
    logits_BC = network.logits(features_BD)  # network(images_BCHW) does both

Every family of networks is a subclass. What features are is the family's business; the head is the
same for all, a linear layer, and is always computed in float32.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """Features and a linear head.

    `HEAD` is the name of the head in the state dict. It differs between families, because published
    weights must load under the names that they were published with.
    """

    HEAD: ClassVar[str]

    @abstractmethod
    def features(self, images_BCHW: Tensor) -> Tensor:
        """What the head sees, features_BD: under autocast in the lower precision."""

    @property
    def has_head(self) -> bool:
        """Whether the last layer is ours: that of a file of onnx is inside the file."""
        return True

    @property
    def head(self) -> nn.Linear:
        """The last layer, from D features to C classes."""
        head = self._modules[self.HEAD]
        assert isinstance(head, nn.Linear)
        return head

    def logits(self, features_BD: Tensor) -> Tensor:
        """The head applied to features: logits_BC, in float32 also under autocast.

        Images are ranked by log-odds, and in bfloat16 most of those would be equal.

        But for training, each image is computed by itself. A product of two matrices takes rows in
        blocks, and those at the edge of a block by other kernels, which on most processors differ
        in the last bits: the place of an image in its batch would decide on its scores.
        """
        with torch.autocast(features_BD.device.type, enabled=False):
            features_BD, head = features_BD.float(), self.head
            if self.training:
                logits_BC: Tensor = head(features_BD)
                return logits_BC
            weight_BDC = head.weight.t().expand(len(features_BD), -1, -1)
            logits_BC = torch.bmm(features_BD[:, None], weight_BDC)[:, 0]
            return logits_BC if head.bias is None else logits_BC + head.bias

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """The last norm of each residual block; none where there are no such blocks."""
        return []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits_BC of images_BCHW."""
        return self.logits(self.features(images_BCHW))

    def with_new_head(self, num_classes: int) -> Self:
        """A copy with the same features and a new head for other classes.

        The weights of the head come from torch's global generator, as when a network is built.
        """
        network = copy.deepcopy(self)
        network._replace_head(num_classes)
        return network

    def with_classes(self, labels: Sequence[int]) -> Self:
        """A copy whose head knows these of the classes, in this order."""
        network = copy.deepcopy(self)
        old = network.head
        network._replace_head(len(labels))
        with torch.no_grad():
            network.head.weight.copy_(old.weight[list(labels)])
            bias = torch.zeros(old.out_features) if old.bias is None else old.bias
            network.head.bias.copy_(bias[list(labels)])
        return network

    def _replace_head(self, num_classes: int) -> None:
        old = self.head
        new = nn.Linear(old.in_features, num_classes).to(old.weight.device, old.weight.dtype)
        setattr(self, self.HEAD, new)
