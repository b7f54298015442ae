"""MACs: the multiply-adds of a network for one input, counted without computing anything.

    count_gmacs("resnet50")  # 4.089

Counts what torch's own counter does: matrix products and convolutions, those of attention too, and
half of its operations, because it takes a multiply-add for two. Norms and activations are not in
it, as they are not in published figures.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.registry import NETWORKS, build


def input_shape(name: str) -> tuple[int, ...]:
    """One input of the size of the network: (1, 3, H, W), or (1, 3, T, H, W) for a video."""
    inputs = NETWORKS[name].inputs
    frames = () if inputs.frames is None else (inputs.frames,)
    return (1, 3, *frames, inputs.size, inputs.size)


def count_gmacs(name: str) -> float:
    """Billions of multiply-adds for one input of the size of the network, with 1,000 classes."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        network = build(name, num_classes=1000).eval()
        # Not `logits`, because autocast knows no meta device.
        network.head(network.features(torch.empty(input_shape(name))))
    return counter.get_total_flops() / 2e9
