"""R(2+1)D for videos: 18 layers with torchvision's keys, and 34 layers with VMZ's widths.

In: clips images_BCTHW, float32, T frames of H x W pixels. Out: logits_BC. "A closer look at
spatiotemporal convolutions for action recognition" (Tran et al. 2018), section 3.5: a 3x3x3
convolution becomes one over the pixels and one over the frames, with as many parameters.

    network = R2Plus1D((2, 2, 2, 2), num_classes=400)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.network import Network

STEM_CHANNELS, CHANNELS = (45, 64), (64, 128, 256, 512)


class FactoredConv(nn.Sequential):
    """A convolution over pixels, 1x3x3, and one over frames, 3x1x1; the stride is that of both."""

    def __init__(self, inputs: int, between: int, outputs: int, stride: int) -> None:
        space, time = (1, stride, stride), (stride, 1, 1)
        super().__init__(
            nn.Conv3d(inputs, between, (1, 3, 3), space, padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(between),
            nn.ReLU(inplace=True),
            nn.Conv3d(between, outputs, (3, 1, 1), time, padding=(1, 0, 0), bias=False),
        )


def channels_between(inputs: int, outputs: int) -> int:
    """Channels with which both convolutions have as many parameters as one of 3x3x3."""
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


class Block(nn.Module):
    """Two factored convolutions and a shortcut.

    torchvision gives the second convolution of a wider block the channels of the first; VMZ, whose
    weights of 34 layers are published, gives each its own (`exact`).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, exact: bool) -> None:
        super().__init__()
        first = channels_between(inputs, outputs)
        second = channels_between(outputs, outputs) if exact else first
        self.conv1 = nn.Sequential(
            FactoredConv(inputs, first, outputs, stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            FactoredConv(outputs, second, outputs, 1), nn.BatchNorm3d(outputs)
        )
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        shortcut_BCTHW = x_BCTHW if self.downsample is None else self.downsample(x_BCTHW)
        return torch.relu(self.conv2(self.conv1(x_BCTHW)) + shortcut_BCTHW)


class R2Plus1D(Network):
    """A stem, four stages of blocks, the mean over pixels and frames, a linear layer.

    `exact` is how VMZ built it in Caffe2: its widths and its epsilon of batch norms.
    """

    HEAD = "fc"

    def __init__(self, depths: Sequence[int], num_classes: int, *, exact: bool = False) -> None:
        super().__init__()
        between, channels = STEM_CHANNELS
        self.stem = nn.Sequential(
            nn.Conv3d(3, between, (1, 7, 7), (1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(between),
            nn.ReLU(inplace=True),
            nn.Conv3d(between, channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
        )
        self.stages = []
        for number, (depth, outputs) in enumerate(zip(depths, CHANNELS, strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(Block(channels, outputs, stride, exact=exact))
                channels = outputs
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.stages.append(f"layer{number}")
        self.fc = nn.Linear(channels, num_classes)
        self._initialise(epsilon=1e-3 if exact else 1e-5)

    def features(self, images_BCTHW: Tensor) -> Tensor:
        """The mean over pixels and frames of the last stage, shape (B, D)."""
        x_BCTHW = self.stem(images_BCTHW)
        for stage in self.stages:
            x_BCTHW = self.get_submodule(stage)(x_BCTHW)
        features_BD: Tensor = x_BCTHW.mean((2, 3, 4))
        return features_BD

    def _initialise(self, epsilon: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm3d):
                module.eps = epsilon
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
