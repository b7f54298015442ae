"""EfficientNets with timm's keys: B0 to B7, L2 and Lite0.

In: images_BCHW, float32. Out: logits_BC. State-dict keys and shapes are those of timm's
`tf_efficientnet_*` (`conv_stem.weight`, `blocks.1.0.conv_pw.weight`, `classifier.bias`, ...), and
so are the padding and the epsilon of the batch norms: weights that Google trained with TensorFlow,
those of Noisy Student among them, give the logits that they were published for.
"EfficientNet: rethinking model scaling for convolutional neural networks" (Tan and Le 2019),
table 1.

    network = EfficientNet(Scale(width=1.0, depth=1.0, dropout=0.2), num_classes=1000)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import Network

# Of each stage of B0: blocks, kernel, stride, expansion and channels out (the paper's table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
SQUEEZE = 0.25  # channels of a squeeze, as a share of those that enter the block
# TensorFlow's, not torch's: published weights belong to this epsilon. Its momentum is 0.99.
BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM = 1e-3, 0.01
# The last block is left out for this share of the images of a training, earlier ones less often.
STOCHASTIC_DEPTH = 0.2


@dataclass(frozen=True)
class Scale:
    """How an EfficientNet differs from B0: factors of channels and of blocks, and its dropout.

    `lite` is the variant for phones: ReLU6, no squeeze, and stem, head and the first and the last
    stage as in B0.
    """

    width: float
    depth: float
    dropout: float
    lite: bool = False

    def channels(self, of_b0: int) -> int:
        """Channels: a multiple of 8, and not less than 90 % of the exact number."""
        exact = of_b0 * self.width
        rounded = max(8, int(exact + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * exact else rounded

    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        blocks = [stage[0] for stage in STAGES]
        depths = [math.ceil(self.depth * count) for count in blocks]
        if self.lite:
            depths[0], depths[-1] = blocks[0], blocks[-1]
        return tuple(depths)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding "SAME": with a stride, it depends on the input.

    The output has ceil(size / stride) pixels a side. An odd pixel of padding is at the end, where
    torch would put it at the beginning.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.stride[0] > 1:
            height, width = (self._missing_pixels(side) for side in x_BCHW.shape[-2:])
            sides = (width // 2, width - width // 2, height // 2, height - height // 2)
            x_BCHW = functional.pad(x_BCHW, sides)
        return super().forward(x_BCHW)

    def _missing_pixels(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)


class SqueezeExcite(nn.Module):
    """Weighs the channels by what the whole image shows (Hu et al. 2017)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.act1 = nn.SiLU(inplace=True)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        squeezed_BC11 = self.act1(self.conv_reduce(x_BCHW.mean((2, 3), keepdim=True)))
        return x_BCHW * torch.sigmoid(self.conv_expand(squeezed_BC11))


@dataclass(frozen=True)
class BlockShape:
    """What a block computes: see `STAGES`; `drop_rate` is that of its stochastic depth."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    drop_rate: float


class Block(nn.Module):
    """MBConv: expand by 1x1, filter each channel, squeeze, project by 1x1; with a shortcut.

    Without an expansion its keys are those of timm's `DepthwiseSeparableConv`, otherwise those of
    its `InvertedResidual`.
    """

    def __init__(self, shape: BlockShape, *, lite: bool) -> None:
        super().__init__()
        self.has_shortcut = shape.stride == 1 and shape.inputs == shape.outputs
        self.drop_rate, self.expands = shape.drop_rate, shape.expansion > 1
        inside = shape.inputs * shape.expansion
        filters = SameConv2d(inside, inside, shape.kernel, shape.stride, groups=inside)
        squeezed = int(shape.inputs * SQUEEZE)
        squeeze = nn.Identity() if lite else SqueezeExcite(inside, squeezed)
        project = SameConv2d(inside, shape.outputs, 1)
        self.act = _activation(lite)
        if self.expands:
            self.conv_pw, self.bn1 = SameConv2d(shape.inputs, inside, 1), _batch_norm(inside)
            self.conv_dw, self.bn2, self.se = filters, _batch_norm(inside), squeeze
            self.conv_pwl, self.bn3 = project, _batch_norm(shape.outputs)
        else:
            self.conv_dw, self.bn1, self.se = filters, _batch_norm(inside), squeeze
            self.conv_pw, self.bn2 = project, _batch_norm(shape.outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.expands:
            y_BCHW: Tensor = self.act(self.bn1(self.conv_pw(x_BCHW)))
            y_BCHW = self.se(self.act(self.bn2(self.conv_dw(y_BCHW))))
            y_BCHW = self.bn3(self.conv_pwl(y_BCHW))
        else:
            y_BCHW = self.se(self.act(self.bn1(self.conv_dw(x_BCHW))))
            y_BCHW = self.bn2(self.conv_pw(y_BCHW))
        if not self.has_shortcut:
            return y_BCHW
        return x_BCHW + drop_images(y_BCHW, self.drop_rate if self.training else 0.0)


class EfficientNet(Network):
    """A stem, seven stages of blocks, a 1x1 convolution, the mean over pixels, a linear layer."""

    HEAD = "classifier"

    def __init__(self, scale: Scale, num_classes: int) -> None:
        super().__init__()
        lite = scale.lite
        stem, head = (
            channels if lite else scale.channels(channels)
            for channels in (STEM_CHANNELS, HEAD_CHANNELS)
        )
        self.conv_stem, self.bn1 = SameConv2d(3, stem, 3, stride=2), _batch_norm(stem)
        self.act = _activation(lite)
        self.blocks = nn.Sequential(*_stages(scale, stem))
        last = scale.channels(STAGES[-1][-1])
        self.conv_head, self.bn2 = SameConv2d(last, head, 1), _batch_norm(head)
        self.dropout = nn.Dropout(scale.dropout)
        self.classifier = nn.Linear(head, num_classes)
        self._initialise()

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The mean over pixels of the last maps, shape (B, D); with dropout in a training."""
        x_BCHW = self.blocks(self.act(self.bn1(self.conv_stem(images_BCHW))))
        x_BCHW = self.act(self.bn2(self.conv_head(x_BCHW)))
        features_BD: Tensor = self.dropout(x_BCHW.mean((2, 3)))
        return features_BD

    def _initialise(self) -> None:
        """As TensorFlow's implementation: a fan-out that counts the channels of one group."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = 1 / math.sqrt(self.classifier.out_features)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)


def drop_images(x_BCHW: Tensor, rate: float) -> Tensor:
    """Stochastic depth: zero for this share of the images, and the others scaled to the same mean.

    "Deep networks with stochastic depth" (Huang et al. 2016); drawn from torch's global generator.
    """
    if rate == 0:
        return x_BCHW
    keep = 1 - rate
    kept_B111 = x_BCHW.new_empty(len(x_BCHW), 1, 1, 1).bernoulli_(keep)
    return x_BCHW * (kept_B111 / keep)


def _stages(scale: Scale, channels: int) -> list[nn.Sequential]:
    stages, index, total = [], 0, sum(scale.depths())
    for depth, (_, kernel, stride, expansion, of_b0) in zip(scale.depths(), STAGES, strict=True):
        blocks = []
        for number in range(depth):
            rate = STOCHASTIC_DEPTH * index / total
            outputs, step = scale.channels(of_b0), stride if number == 0 else 1
            shape = BlockShape(channels, outputs, kernel, step, expansion, rate)
            blocks.append(Block(shape, lite=scale.lite))
            channels, index = outputs, index + 1
        stages.append(nn.Sequential(*blocks))
    return stages


def _activation(lite: bool) -> nn.Module:
    return nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
