"""The ResNets of SimCLRv2: 50, 101 and 152 layers, wider ones, and with selective kernels.

In: images_BCHW, float32 in [0, 1]. Out: logits_BC. "Big self-supervised models are strong
semi-supervised learners" (Chen et al. 2020); the layers are those of google-research/simclr,
resnet.py, whose weights fit: pooling as TensorFlow pads it, and with selective kernels the stem and
the shortcuts of ResNet-D ("Bag of tricks for image classification", He et al. 2018, section 4).

    network = SimclrResNet((3, 4, 6, 3), width=2, selective=True, num_classes=1000)
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.networks.resnet import Bottleneck, Grouping, ResNet

WIDTHS = (64, 128, 256, 512)
# Of the branch that weighs the two kernels: its channels, as a share of the block's, and the least.
SELECTION_RATIO, MIN_SELECTION = 0.0625, 32
# TensorFlow draws normal numbers within two deviations, and corrects the deviation for that.
TRUNCATED = 0.87962566103423978


class SelectiveKernel(nn.Module):
    """Two 3x3 convolutions, mixed by weights that depend on the image.

    "Selective kernel networks" (Li et al. 2019), section 3.1; here both kernels have the same size.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        squeezed = max(int(channels * SELECTION_RATIO), MIN_SELECTION)
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)
        self.reduce = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.bn_reduce = nn.BatchNorm2d(squeezed)
        self.mix = nn.Conv2d(squeezed, 2 * channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # K is the two kernels.
        x_BKCHW = self.relu(self.bn(self.conv(x_BCHW))).unflatten(1, (2, -1))
        whole_BC11 = x_BKCHW.sum(dim=1).mean((2, 3), keepdim=True)
        mix_BC11 = self.mix(self.relu(self.bn_reduce(self.reduce(whole_BC11))))
        mixed_BCHW: Tensor = (x_BKCHW * mix_BC11.unflatten(1, (2, -1)).softmax(dim=1)).sum(dim=1)
        return mixed_BCHW


class SelectiveBottleneck(Bottleneck):
    """A bottleneck with a selective kernel in the middle and a shortcut that averages."""

    def __init__(self, in_channels: int, channels: int, stride: int, grouping: Grouping) -> None:
        super().__init__(in_channels, channels, stride, grouping)
        self.conv2 = SelectiveKernel(channels, stride)
        self.bn2 = nn.Identity()  # the kernel has its own, and the ReLU
        if self.downsample is not None:
            convolution = nn.Conv2d(in_channels, channels * self.expansion, 1, bias=False)
            self.downsample = nn.Sequential(
                Mean2x2(stride), convolution, nn.BatchNorm2d(channels * self.expansion)
            )


class Mean2x2(nn.Module):
    """The mean of squares of 2x2 pixels, from each pixel or from every other one.

    At the right and lower edge, TensorFlow's padding "SAME" takes the mean of the pixels that there
    are; with a stride, the original code pads with a zero.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mode = "replicate" if self.stride == 1 else "constant"
        return functional.avg_pool2d(functional.pad(x_BCHW, (0, 1, 0, 1), mode), 2, self.stride)


class SameMaxPool(nn.Module):
    """The largest of 3x3 pixels with stride 2 and TensorFlow's padding "SAME"."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = (side % 2 for side in x_BCHW.shape[-2:])
        # An even side is padded at the end alone, an odd one at both; the input is never negative.
        return functional.max_pool2d(functional.pad(x_BCHW, (width, 1, height, 1)), 3, 2)


class SimclrResNet(ResNet):
    """A ResNet whose channels are `width` times the usual ones, with selective kernels or without.

    The state dict has the keys of `ResNet`; those of the deep stem are `conv1.0` to `conv1.6`.
    """

    def __init__(
        self, depths: Sequence[int], width: int, num_classes: int, *, selective: bool
    ) -> None:
        widths = [width * channels for channels in WIDTHS]
        block = SelectiveBottleneck if selective else Bottleneck
        super().__init__(block, depths, widths, num_classes, small_stem=False)
        if selective:
            self.conv1 = _deep_stem(widths[0])
        self.maxpool = SameMaxPool()
        self._initialise_as_tensorflow()

    def _initialise_as_tensorflow(self) -> None:
        """Convolutions by their fan-in, zeros for what ends a branch, and a small head."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = math.prod(module.weight.shape[1:])
                std = 1 / math.sqrt(fan_in) / TRUNCATED
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)


def _deep_stem(channels: int) -> nn.Sequential:
    """Three 3x3 convolutions in place of a 7x7; the norm behind them is the network's `bn1`."""
    half = channels // 2
    return nn.Sequential(
        nn.Conv2d(3, half, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        nn.Conv2d(half, half, 3, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        nn.Conv2d(half, channels, 3, padding=1, bias=False),
    )
