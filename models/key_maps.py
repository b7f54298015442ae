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


KEY_MAPS: Mapping[str, Rules] = {
    # Ours are torchvision's for ResNets, and timm's for EfficientNets.
    "torchvision, timm": (),
    "EfficientNet-PyTorch: B0, Lite0": _efficientnet_pytorch(1, 2, 2, 3, 3, 4, 1),
    "EfficientNet-PyTorch: B1, B2": _efficientnet_pytorch(2, 3, 3, 4, 4, 5, 2),
    "EfficientNet-PyTorch: B3": _efficientnet_pytorch(2, 3, 3, 5, 5, 6, 2),
    "EfficientNet-PyTorch: B4": _efficientnet_pytorch(2, 4, 4, 6, 6, 8, 2),
    "EfficientNet-PyTorch: B5": _efficientnet_pytorch(3, 5, 5, 7, 7, 9, 3),
    "EfficientNet-PyTorch: B6": _efficientnet_pytorch(3, 6, 6, 8, 8, 11, 3),
    "EfficientNet-PyTorch: B7": _efficientnet_pytorch(4, 7, 7, 10, 10, 13, 4),
}
