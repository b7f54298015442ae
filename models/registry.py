"""Zoo: every network by name, built in one place.

    network = build("resnet50", num_classes=1000)

Names: `small_resnet_8`, `_16`, `_32` (28 to 64 pixels; the number is the width of the first stage),
`resnet18`, `resnet50` (torchvision's layers and keys), `mean_colour` (a linear layer on the mean
colour), and `timm/<name>` where timm is installed. Names can be checked without loading torch.
"""

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

TIMM_PREFIX = "timm/"


@dataclass(frozen=True)
class Plan:
    """A residual network on paper: blocks in each stage and the width of their 3x3."""

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    small_stem: bool = False


MEAN_COLOUR = "mean_colour"
PLANS = {
    "small_resnet_8": Plan("basic", (1, 1, 1), (8, 16, 32), small_stem=True),
    "small_resnet_16": Plan("basic", (1, 1, 1), (16, 32, 64), small_stem=True),
    "small_resnet_32": Plan("basic", (1, 1, 1), (32, 64, 128), small_stem=True),
    "resnet18": Plan("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet50": Plan("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512)),
}
NAMES = (*PLANS, MEAN_COLOUR)


def check_name(name: str) -> str:
    """The name itself. Raises ValueError, with the nearest name, when it cannot be built."""
    if name not in NAMES and not name.startswith(TIMM_PREFIX):
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(NAMES)}"
        raise ValueError(f"there is no model {name!r}; {hint} (or timm/<name>)")
    return name


def build(name: str, num_classes: int) -> "nn.Module":
    """A freshly initialised network: images_BCHW (B, 3, H, W) -> logits_BC (B, num_classes).

    Raises ValueError for an unknown name, ModuleNotFoundError for `timm/` without timm.
    """
    check_name(name)
    if name == MEAN_COLOUR:
        from models.networks.mean_colour import MeanColour

        return MeanColour(num_classes)
    if name.startswith(TIMM_PREFIX):
        # timm needs torchvision, which the CPU build of torch has not.
        import timm

        network: nn.Module = timm.create_model(
            name.removeprefix(TIMM_PREFIX), num_classes=num_classes
        )
        return network
    from models.networks.resnet import BasicBlock, Bottleneck, ResNet

    plan = PLANS[name]
    block = BasicBlock if plan.block == "basic" else Bottleneck
    return ResNet(block, plan.depths, plan.widths, num_classes, small_stem=plan.small_stem)
