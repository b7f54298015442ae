"""Key maps: of each publisher of weights, how its keys become ours, as data.

    KEY_MAPS["torchvision"]  # (), because our ResNets have torchvision's keys

A map is a sequence of rules: a regular expression and its replacement. The rules apply to every
key, each to the result of the one before. `models/state_dicts.py` takes the map that fits.
"""

from collections.abc import Mapping, Sequence

Rules = Sequence[tuple[str, str]]


def _efficientnet_pytorch(*depths: int) -> Rules:
    """The keys of lukemelas/EfficientNet-PyTorch, whose blocks are numbered through all stages."""
    places = [(stage, index) for stage, depth in enumerate(depths) for index in range(depth)]
    numbers = [
        (rf"^_blocks\.{number}\.", f"blocks.{stage}.{index}.")
        for number, (stage, index) in enumerate(places)
    ]
    # The blocks of the first stage have no expansion, and timm counts their norms from there.
    first, later = r"^(blocks\.0\.\d+\.)", r"^(blocks\.[1-6]\.\d+\.)"
    return (
        *numbers,
        (rf"{first}_project_conv\.", r"\1conv_pw."),
        (rf"{first}_bn([12])\.", r"\1bn\2."),
        (rf"{later}_expand_conv\.", r"\1conv_pw."),
        (rf"{later}_project_conv\.", r"\1conv_pwl."),
        (rf"{later}_bn0\.", r"\1bn1."),
        (rf"{later}_bn2\.", r"\1bn3."),
        (rf"{later}_bn1\.", r"\1bn2."),
        (r"\._depthwise_conv\.", ".conv_dw."),
        (r"\._se_(reduce|expand)\.", r".se.conv_\1."),
        (r"^_conv_(stem|head)\.", r"conv_\1."),
        (r"^_bn1\.", "bn2."),
        (r"^_bn0\.", "bn1."),
        (r"^_fc\.", "classifier."),
    )


# The converter of SimCLRv2's weights, Separius/SimCLRv2-Pytorch: layers are numbered in sequences.
_BLOCK = r"^net\.([1-4])\.blocks\.(\d+)\."
_SIMCLR: Rules = (
    (rf"{_BLOCK}projection\.", r"layer\1.\2.downsample."),
    (rf"{_BLOCK}net\.0\.", r"layer\1.\2.conv1."),
    (rf"{_BLOCK}net\.1\.0\.", r"layer\1.\2.bn1."),
)
_SIMCLR_PLAIN: Rules = (
    *_SIMCLR,
    (r"^net\.0\.0\.", "conv1."),
    (r"^net\.0\.1\.0\.", "bn1."),
    (r"\.downsample\.shortcut\.", ".downsample.0."),
    (r"\.downsample\.bn\.0\.", ".downsample.1."),
    (rf"{_BLOCK}net\.2\.", r"layer\1.\2.conv2."),
    (rf"{_BLOCK}net\.3\.0\.", r"layer\1.\2.bn2."),
    (rf"{_BLOCK}net\.4\.", r"layer\1.\2.conv3."),
    (rf"{_BLOCK}net\.5\.0\.", r"layer\1.\2.bn3."),
)
_SIMCLR_SELECTIVE: Rules = (
    *_SIMCLR,
    (r"^net\.0\.0\.", "conv1.0."),
    (r"^net\.0\.1\.0\.", "conv1.1."),
    (r"^net\.0\.2\.", "conv1.3."),
    (r"^net\.0\.3\.0\.", "conv1.4."),
    (r"^net\.0\.4\.", "conv1.6."),
    (r"^net\.0\.5\.0\.", "bn1."),
    (r"\.downsample\.shortcut\.2\.", ".downsample.1."),
    (r"\.downsample\.bn\.0\.", ".downsample.2."),
    (rf"{_BLOCK}net\.2\.main_conv\.0\.", r"layer\1.\2.conv2.conv."),
    (rf"{_BLOCK}net\.2\.main_conv\.1\.0\.", r"layer\1.\2.conv2.bn."),
    (rf"{_BLOCK}net\.2\.mixing_conv\.0\.", r"layer\1.\2.conv2.reduce."),
    (rf"{_BLOCK}net\.2\.mixing_conv\.1\.0\.", r"layer\1.\2.conv2.bn_reduce."),
    (rf"{_BLOCK}net\.2\.mixing_conv\.2\.", r"layer\1.\2.conv2.mix."),
    (rf"{_BLOCK}net\.3\.", r"layer\1.\2.conv3."),
    (rf"{_BLOCK}net\.4\.0\.", r"layer\1.\2.bn3."),
)

KEY_MAPS: Mapping[str, Rules] = {
    # Ours are torchvision's for ResNets, and timm's for EfficientNets.
    # Also those of WSL-Images and of semi-supervised-ImageNet1K-models.
    "torchvision, timm": (),
    # Features in `_feature_blocks`; the head is an `mlp` of one layer (vissl/models).
    "VISSL": ((r"^trunk\._feature_blocks\.", ""), (r"^heads\.0\.clf\.0\.", "fc.")),
    "EfficientNet-PyTorch: B0, Lite0": _efficientnet_pytorch(1, 2, 2, 3, 3, 4, 1),
    "EfficientNet-PyTorch: B1, B2": _efficientnet_pytorch(2, 3, 3, 4, 4, 5, 2),
    "EfficientNet-PyTorch: B3": _efficientnet_pytorch(2, 3, 3, 5, 5, 6, 2),
    "EfficientNet-PyTorch: B4": _efficientnet_pytorch(2, 4, 4, 6, 6, 8, 2),
    "EfficientNet-PyTorch: B5": _efficientnet_pytorch(3, 5, 5, 7, 7, 9, 3),
    "EfficientNet-PyTorch: B6": _efficientnet_pytorch(3, 6, 6, 8, 8, 11, 3),
    "EfficientNet-PyTorch: B7": _efficientnet_pytorch(4, 7, 7, 10, 10, 13, 4),
    "SimCLRv2-Pytorch": _SIMCLR_PLAIN,
    "SimCLRv2-Pytorch, selective kernels": _SIMCLR_SELECTIVE,
}
