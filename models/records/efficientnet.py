"""EfficientNets: the weights of Noisy Student, and those that were trained on the labels alone.

Accuracies are as timm measured them at the size of each network, bicubic. The supervised ones are
those with AutoAugment, which the paper of Noisy Student compares with.
"""

from typing import TYPE_CHECKING

from models.records.base import (
    TIMM_RESULTS,
    Method,
    NetworkRecord,
    PublishedAccuracy,
    PublishedInputs,
)

if TYPE_CHECKING:
    from models.network import Network

# B0 to L2 take ImageNet's mean and deviation, Lite0 pixels between -1 and 1.
CENTRED = (0.5, 0.5, 0.5)
METHODS: dict[str, Method] = {
    "aa_in1k": "supervised",
    "in1k": "supervised",
    "ns_jft_in1k": "Noisy Student",
    "ns_jft_in1k_475": "Noisy Student",
}


def _record(
    size: str,
    scale: tuple[float, float, float],
    pixels: tuple[int, float],
    cost: tuple[int, float],
    *published: tuple[str, float, float],
    lite: bool = False,
) -> NetworkRecord:
    """A record; `scale` is the factors of channels and blocks, and the dropout.

    `pixels` are the side of the input and the share of its crop, `cost` the parameters and GMACs.
    """

    def build_efficientnet(num_classes: int) -> "Network":
        from models.networks.efficientnet import EfficientNet, Scale

        return EfficientNet(Scale(*scale, lite=lite), num_classes)

    name = f"efficientnet_{size}"
    measured = tuple(
        PublishedAccuracy(f"tf_{name}.{weights}", METHODS[weights], top1, top5, TIMM_RESULTS)
        for weights, top1, top5 in published
    )
    inputs = PublishedInputs(*pixels, interpolation="bicubic")
    if lite:
        inputs = PublishedInputs(*pixels, "bicubic", mean=CENTRED, std=CENTRED)
    return NetworkRecord(name, "efficientnet", build_efficientnet, inputs, *cost, measured)


EFFICIENTNETS = (
    _record(
        "b0",
        (1.0, 1.0, 0.2),
        (224, 0.875),
        (5_288_548, 0.3858),
        ("aa_in1k", 76.882, 93.270),
        ("ns_jft_in1k", 78.680, 94.372),
    ),
    _record(
        "b1",
        (1.0, 1.1, 0.2),
        (240, 0.882),
        (7_794_184, 0.6868),
        ("aa_in1k", 78.840, 94.202),
        ("ns_jft_in1k", 81.388, 95.756),
    ),
    _record(
        "b2",
        (1.1, 1.2, 0.3),
        (260, 0.890),
        (9_109_994, 0.9936),
        ("aa_in1k", 80.074, 94.906),
        ("ns_jft_in1k", 82.412, 96.238),
    ),
    _record(
        "b3",
        (1.2, 1.4, 0.3),
        (300, 0.904),
        (12_233_232, 1.827),
        ("aa_in1k", 81.648, 95.724),
        ("ns_jft_in1k", 84.054, 96.926),
    ),
    _record(
        "b4",
        (1.4, 1.8, 0.4),
        (380, 0.922),
        (19_341_616, 4.394),
        ("aa_in1k", 83.040, 96.298),
        ("ns_jft_in1k", 85.156, 97.482),
    ),
    _record(
        "b5",
        (1.6, 2.2, 0.4),
        (456, 0.934),
        (30_389_784, 10.266),
        ("aa_in1k", 83.696, 96.712),
        ("ns_jft_in1k", 86.096, 97.744),
    ),
    _record(
        "b6",
        (1.8, 2.6, 0.5),
        (528, 0.942),
        (43_040_704, 19.068),
        ("aa_in1k", 84.124, 96.890),
        ("ns_jft_in1k", 86.476, 97.864),
    ),
    _record(
        "b7",
        (2.0, 3.1, 0.5),
        (600, 0.949),
        (66_347_960, 37.746),
        ("aa_in1k", 84.424, 96.908),
        ("ns_jft_in1k", 86.850, 98.080),
    ),
    _record(
        "l2",
        (4.3, 5.3, 0.5),
        (800, 0.960),
        (480_309_308, 475.704),
        ("ns_jft_in1k", 88.360, 98.656),
        ("ns_jft_in1k_475", 88.246, 98.554),
    ),
    _record(
        "lite0",
        (1.0, 1.0, 0.2),
        (224, 0.875),
        (4_652_008, 0.3852),
        ("in1k", 74.846, 92.180),
        lite=True,
    ),
)
