"""ResNets and ResNeXts with torchvision's keys, and small ones for inputs of 28 to 64 pixels.

In: images_BCHW, float32. Out: logits_BC. State-dict keys and shapes of `ResNet` are torchvision's
(`conv1.weight`, `layer1.0.bn1.running_mean`, `fc.bias`, ...), so that published weights load as
they are. "Deep residual learning for image recognition" (He et al. 2015), section 3.3 and 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.network import Network


@dataclass(frozen=True)
class Grouping:
    """Groups of the 3x3 convolutions of a bottleneck; a group of the first stage has this width."""

    groups: int = 1
    width_per_group: int = 64


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, _grouping: Grouping) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.relu(self.bn1(self.conv1(x_BCHW)))
        y_BCHW = self.bn2(self.conv2(y_BCHW))
        shortcut_BCHW = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return torch.relu(y_BCHW + shortcut_BCHW)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the stride is on the 3x3, as in torchvision ("v1.5").

    With groups it is the block of "Aggregated residual transformations for deep neural networks"
    (Xie et al. 2016, figure 3c).
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, grouping: Grouping) -> None:
        super().__init__()
        out_channels, groups = channels * self.expansion, grouping.groups
        width = channels * grouping.width_per_group // 64 * groups
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        # Modules of any kind, because a selective kernel can stand in their place.
        self.conv2: nn.Module = nn.Conv2d(
            width, width, 3, stride, padding=1, groups=groups, bias=False
        )
        self.bn2: nn.Module = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.relu(self.bn1(self.conv1(x_BCHW)))
        y_BCHW = self.relu(self.bn2(self.conv2(y_BCHW)))
        y_BCHW = self.bn3(self.conv3(y_BCHW))
        shortcut_BCHW = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        return torch.relu(y_BCHW + shortcut_BCHW)


class ResNet(Network):
    """A residual network: a stem, stages of blocks, the mean over pixels, a linear layer.

    `small_stem` is a single 3x3 convolution of stride 2, for small inputs; otherwise a 7x7 of
    stride 2 and a pooling of stride 2, as in torchvision.
    """

    HEAD = "fc"

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        *,
        small_stem: bool,
        grouping: Grouping = Grouping(),
    ) -> None:
        super().__init__()
        kernel = 3 if small_stem else 7
        self.conv1: nn.Module = nn.Conv2d(3, widths[0], kernel, 2, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = (
            nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        )
        self.stages = []
        channels = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(block(channels, width, stride, grouping))
                channels = width * block.expansion
            # Named one by one, because the state dict must have torchvision's keys.
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.stages.append(f"layer{number}")
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self._initialise()

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The mean over pixels of the last stage, shape (B, D): D is its number of channels."""
        x_BCHW = self.maxpool(self.relu(self.bn1(self.conv1(images_BCHW))))
        for stage in self.stages:
            x_BCHW = self.get_submodule(stage)(x_BCHW)
        return torch.flatten(self.avgpool(x_BCHW), 1)

    def last_norms(self) -> list[nn.BatchNorm2d]:
        """That before the sum of each block."""
        basic = [block.bn2 for block in self.modules() if isinstance(block, BasicBlock)]
        return basic + [block.bn3 for block in self.modules() if isinstance(block, Bottleneck)]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )
