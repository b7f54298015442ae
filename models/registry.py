"""Registry: every network by name, with what must be known of it before it is built.

    network = build("resnet50", num_classes=1000)
    NETWORKS["resnet50"].input_size  # 224

A record says the family, the usual input size, the number of parameters and the accuracy of
published weights. A new network is a record here; its layers are in `models/networks/`. The layers
are imported when a network is built, so that names can be checked without loading torch. Beside the
records, `timm/<name>` is any network of the package timm, where it is installed, and `onnx` what
another program has written in that format.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.network import Network

TIMM_PREFIX = "timm/"
ONNX = "onnx"  # a network that another program has written, in a file of that format


@dataclass(frozen=True)
class PublishedAccuracy:
    """Accuracy of published weights on the validation set of ImageNet-1k, in percent."""

    weights: str
    top1: float
    top5: float
    source: str


@dataclass(frozen=True)
class NetworkRecord:
    """A network before it is built.

    `input_size` is the side of the square input in pixels that the network was designed for; other
    sizes work as well. `num_parameters` is counted with 1,000 classes.
    """

    name: str
    family: str
    build: "Callable[[int], Network]"
    input_size: int
    num_parameters: int
    published: tuple[PublishedAccuracy, ...] = ()


def _resnet(
    block: Literal["basic", "bottleneck"],
    depths: tuple[int, ...],
    widths: tuple[int, ...] = (64, 128, 256, 512),
    *,
    small_stem: bool = False,
    groups: int = 1,
    width_per_group: int = 64,
) -> "Callable[[int], Network]":
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


def _mean_colour(num_classes: int) -> "Network":
    from models.networks.mean_colour import MeanColour

    return MeanColour(num_classes)


def _small_resnet(width: int, num_parameters: int) -> NetworkRecord:
    """A ResNet for inputs of 28 to 64 pixels; `width` is the channels of the first stage."""
    widths = (width, 2 * width, 4 * width)
    build_resnet = _resnet("basic", (1, 1, 1), widths, small_stem=True)
    return NetworkRecord(f"small_resnet_{width}", "resnet", build_resnet, 32, num_parameters)


def _measured_by_timm(weights: str, top1: float, top5: float) -> PublishedAccuracy:
    """What timm measured, with inputs of 224 pixels: a central crop of 87.5 %, bilinear."""
    return PublishedAccuracy(weights, top1, top5, "timm, results/results-imagenet.csv")


def _imagenet_resnet(
    name: str,
    num_parameters: int,
    build_resnet: "Callable[[int], Network]",
    *published: tuple[str, float, float],
) -> NetworkRecord:
    """A ResNet or ResNeXt of ImageNet's size; (weights, top-1, top-5) as timm measured them."""
    measured = tuple(_measured_by_timm(f"{name}.{weights}", *rest) for weights, *rest in published)
    return NetworkRecord(name, "resnet", build_resnet, 224, num_parameters, measured)


_R50, _R101 = (3, 4, 6, 3), (3, 4, 23, 3)
_SSL, _SWSL, _WSL = "fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k", "fb_wsl_ig1b_ft_in1k"


def _resnext(depths: tuple[int, ...], width: int) -> "Callable[[int], Network]":
    return _resnet("bottleneck", depths, groups=32, width_per_group=width)


def _efficientnet(
    size: str,
    scale: tuple[float, float, float],
    input_size: int,
    num_parameters: int,
    *,
    lite: bool = False,
) -> NetworkRecord:
    """An EfficientNet; its scale is the factors of channels and blocks, and the dropout."""

    def build_efficientnet(num_classes: int) -> "Network":
        from models.networks.efficientnet import EfficientNet, Scale

        return EfficientNet(Scale(*scale, lite=lite), num_classes)

    name = f"efficientnet_{size}"
    return NetworkRecord(name, "efficientnet", build_efficientnet, input_size, num_parameters)


_EFFICIENTNETS = (
    _efficientnet("b0", (1.0, 1.0, 0.2), 224, 5_288_548),
    _efficientnet("b1", (1.0, 1.1, 0.2), 240, 7_794_184),
    _efficientnet("b2", (1.1, 1.2, 0.3), 260, 9_109_994),
    _efficientnet("b3", (1.2, 1.4, 0.3), 300, 12_233_232),
    _efficientnet("b4", (1.4, 1.8, 0.4), 380, 19_341_616),
    _efficientnet("b5", (1.6, 2.2, 0.4), 456, 30_389_784),
    _efficientnet("b6", (1.8, 2.6, 0.5), 528, 43_040_704),
    _efficientnet("b7", (2.0, 3.1, 0.5), 600, 66_347_960),
    _efficientnet("l2", (4.3, 5.3, 0.5), 800, 480_309_308),
    _efficientnet("lite0", (1.0, 1.0, 0.2), 224, 4_652_008, lite=True),
)

_RESNETS = (
    _imagenet_resnet(
        "resnet18",
        11_689_512,
        _resnet("basic", (2, 2, 2, 2)),
        ("tv_in1k", 69.752, 89.082),
        (_SSL, 72.636, 91.416),
        (_SWSL, 73.286, 91.754),
    ),
    _imagenet_resnet("resnet34", 21_797_672, _resnet("basic", _R50)),
    _imagenet_resnet(
        "resnet50",
        25_557_032,
        _resnet("bottleneck", _R50),
        ("tv_in1k", 76.156, 92.866),
        (_SSL, 79.252, 94.826),
        (_SWSL, 81.146, 95.980),
    ),
    _imagenet_resnet("resnet101", 44_549_160, _resnet("bottleneck", _R101)),
    _imagenet_resnet("resnet152", 60_192_808, _resnet("bottleneck", (3, 8, 36, 3))),
    _imagenet_resnet(
        "resnext50_32x4d",
        25_028_904,
        _resnext(_R50, 4),
        (_SSL, 80.316, 95.386),
        (_SWSL, 82.162, 96.224),
    ),
    _imagenet_resnet(
        "resnext101_32x4d",
        44_177_704,
        _resnext(_R101, 4),
        (_SSL, 80.936, 95.732),
        (_SWSL, 83.268, 96.760),
    ),
    _imagenet_resnet(
        "resnext101_32x8d",
        88_791_336,
        _resnext(_R101, 8),
        (_SSL, 81.620, 96.036),
        (_SWSL, 84.276, 97.188),
        (_WSL, 82.720, 96.624),
    ),
    _imagenet_resnet(
        "resnext101_32x16d",
        194_026_792,
        _resnext(_R101, 16),
        (_SSL, 81.856, 96.084),
        (_SWSL, 83.340, 96.844),
        (_WSL, 84.166, 97.192),
    ),
    _imagenet_resnet("resnext101_32x32d", 468_530_472, _resnext(_R101, 32), (_WSL, 85.090, 97.442)),
    _imagenet_resnet("resnext101_32x48d", 828_411_176, _resnext(_R101, 48)),
)

NETWORKS = {
    record.name: record
    for record in (
        _small_resnet(8, 52_624),
        _small_resnet(16, 142_392),
        _small_resnet(32, 436_360),
        *_RESNETS,
        *_EFFICIENTNETS,
        NetworkRecord("mean_colour", "mean_colour", _mean_colour, 32, 4_000),
    )
}


def check_name(name: str) -> str:
    """The name itself. Raises ValueError, with the nearest name, when it cannot be built."""
    if name not in (*NETWORKS, ONNX) and not name.startswith(TIMM_PREFIX):
        nearest = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(NETWORKS)}"
        raise ValueError(f"there is no model {name!r}; {hint} (or timm/<name>, or onnx)")
    return name


def build(name: str, num_classes: int) -> "Network":
    """A freshly initialised network: images_BCHW (B, 3, H, W) -> logits_BC (B, num_classes).

    Raises ValueError for an unknown name, ModuleNotFoundError for `timm/` without timm.
    """
    check_name(name)
    if name in NETWORKS:
        return NETWORKS[name].build(num_classes)
    if name == ONNX:
        return _build_onnx(num_classes)
    try:
        from models.networks.timm_network import TimmNetwork
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} needs timm and torchvision ({error}): install both, or take one of "
            f"{', '.join(NETWORKS)}"
        ) from error

    return TimmNetwork(name.removeprefix(TIMM_PREFIX), num_classes)


def _build_onnx(num_classes: int) -> "Network":
    try:
        from models.networks.onnx_network import OnnxNetwork
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the model onnx needs onnxruntime ({error}): pip install 'protege[onnx]'"
        ) from error
    return OnnxNetwork(num_classes)
