"""ResNets and ResNeXts: torchvision's weights, and those of the paper and its relatives.

Accuracies are as timm measured them, with inputs of 224 pixels: a central crop of 87.5 %, bilinear.
"""

from typing import TYPE_CHECKING, Literal

from models.records.base import (
    TIMM_RESULTS,
    Builder,
    Method,
    NetworkRecord,
    PublishedAccuracy,
    PublishedInputs,
)

if TYPE_CHECKING:
    from models.network import Network

METHODS: dict[str, Method] = {
    "tv_in1k": "supervised",
    "fb_ssl_yfcc100m_ft_in1k": "semi-supervised",
    "fb_swsl_ig1b_ft_in1k": "semi-weakly supervised",
    "fb_wsl_ig1b_ft_in1k": "weakly supervised",
}
PLAIN, SSL, SWSL, WSL = METHODS
R50, R101, R152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)


def resnet(
    block: Literal["basic", "bottleneck"],
    depths: tuple[int, ...],
    widths: tuple[int, ...] = (64, 128, 256, 512),
    *,
    small_stem: bool = False,
    groups: int = 1,
    width_per_group: int = 64,
) -> Builder:
    """A function that builds this ResNet for a number of classes.

    `depths` are the blocks of each stage, `widths` the channels of their 3x3 convolutions.
    """

    def build_resnet(num_classes: int) -> "Network":
        from models.networks.resnet import BasicBlock, Bottleneck, Grouping, ResNet

        block_type = BasicBlock if block == "basic" else Bottleneck
        grouping = Grouping(groups, width_per_group)
        return ResNet(
            block_type, depths, widths, num_classes, small_stem=small_stem, grouping=grouping
        )

    return build_resnet


def _resnext(depths: tuple[int, ...], width: int) -> Builder:
    return resnet("bottleneck", depths, groups=32, width_per_group=width)


def _record(
    name: str,
    num_parameters: int,
    gmacs: float,
    build: Builder,
    *published: tuple[str, float, float],
) -> NetworkRecord:
    """A record; (weights, top-1, top-5) as timm measured them."""
    measured = tuple(
        PublishedAccuracy(f"{name}.{weights}", METHODS[weights], top1, top5, TIMM_RESULTS)
        for weights, top1, top5 in published
    )
    inputs = PublishedInputs(224)
    return NetworkRecord(name, "resnet", build, inputs, num_parameters, gmacs, measured)


RESNETS = (
    _record(
        "resnet18",
        11_689_512,
        1.814,
        resnet("basic", (2, 2, 2, 2)),
        (PLAIN, 69.752, 89.082),
        (SSL, 72.636, 91.416),
        (SWSL, 73.286, 91.754),
    ),
    _record("resnet34", 21_797_672, 3.664, resnet("basic", R50), (PLAIN, 73.298, 91.422)),
    _record(
        "resnet50",
        25_557_032,
        4.089,
        resnet("bottleneck", R50),
        (PLAIN, 76.156, 92.866),
        (SSL, 79.252, 94.826),
        (SWSL, 81.146, 95.980),
    ),
    _record("resnet101", 44_549_160, 7.801, resnet("bottleneck", R101), (PLAIN, 77.404, 93.552)),
    _record("resnet152", 60_192_808, 11.514, resnet("bottleneck", R152), (PLAIN, 78.330, 94.046)),
    _record(
        "resnext50_32x4d",
        25_028_904,
        4.230,
        _resnext(R50, 4),
        (PLAIN, 77.632, 93.674),
        (SSL, 80.316, 95.386),
        (SWSL, 82.162, 96.224),
    ),
    _record(
        "resnext101_32x4d",
        44_177_704,
        7.970,
        _resnext(R101, 4),
        (SSL, 80.936, 95.732),
        (SWSL, 83.268, 96.760),
    ),
    _record(
        "resnext101_32x8d",
        88_791_336,
        16.414,
        _resnext(R101, 8),
        (PLAIN, 79.308, 94.530),
        (SSL, 81.620, 96.036),
        (SWSL, 84.276, 97.188),
        (WSL, 82.720, 96.624),
    ),
    _record(
        "resnext101_32x16d",
        194_026_792,
        36.163,
        _resnext(R101, 16),
        (SSL, 81.856, 96.084),
        # Announced with 84.8: another model was saved by mistake, and never replaced.
        (SWSL, 83.340, 96.844),
        (WSL, 84.166, 97.192),
    ),
    _record("resnext101_32x32d", 468_530_472, 87.107, _resnext(R101, 32), (WSL, 85.090, 97.442)),
    _record("resnext101_32x48d", 828_411_176, 153.310, _resnext(R101, 48)),
)
