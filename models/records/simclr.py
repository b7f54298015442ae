"""The ResNets of SimCLRv2. Accuracies are those of google-research/simclr, README; top-1 only.

Weights are named as the checkpoints are: `finetuned_1pct/r50_1x_sk0`.
"""

from typing import TYPE_CHECKING

from models.records.base import (
    Builder,
    Method,
    NetworkRecord,
    PublishedAccuracy,
    PublishedInputs,
)
from models.records.resnet import R50, R101, R152

if TYPE_CHECKING:
    from models.network import Network

DEPTHS = {50: R50, 101: R101, 152: R152}
# Pixels in [0, 1], without mean and deviation.
INPUTS = PublishedInputs(224, 0.875, "bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
COLUMNS: tuple[tuple[str, Method], ...] = (
    ("finetuned_1pct", "SimCLRv2, 1% of labels"),
    ("finetuned_10pct", "SimCLRv2, 10% of labels"),
    ("finetuned_100pct", "SimCLRv2, all labels"),
    ("pretrained", "SimCLRv2, linear"),
    ("supervised", "supervised"),
)


def _build(depth: int, width: int, selective: bool) -> Builder:
    def build_simclr(num_classes: int) -> "Network":
        from models.networks.simclr_resnet import SimclrResNet

        return SimclrResNet(DEPTHS[depth], width, num_classes, selective=selective)

    return build_simclr


def _record(
    depth: int, width: int, cost: tuple[int, float], *top1: float, selective: bool = False
) -> NetworkRecord:
    """A record; `cost` is the parameters and GMACs, `top1` in the order of `COLUMNS`."""
    name = f"simclr_resnet{depth}_{width}x{'_sk' * selective}"
    checkpoint = f"r{depth}_{width}x_sk{int(selective)}"
    published = tuple(
        PublishedAccuracy(
            f"{folder}/{checkpoint}", method, accuracy, None, "google-research/simclr, README"
        )
        for (folder, method), accuracy in zip(COLUMNS, top1, strict=bool(top1))
    )
    build = _build(depth, width, selective)
    return NetworkRecord(name, "simclr", build, INPUTS, *cost, published)


def _selective(depth: int, width: int, cost: tuple[int, float], *top1: float) -> NetworkRecord:
    return _record(depth, width, cost, *top1, selective=True)


SIMCLR = (
    _record(50, 1, (25_557_032, 4.089), 57.9, 68.4, 76.3, 71.7, 76.6),
    _selective(50, 1, (37_264_584, 6.179), 64.5, 72.1, 78.7, 74.6, 78.5),
    _record(50, 2, (98_004_072, 16.117), 66.3, 73.9, 79.1, 75.6, 77.8),
    _selective(50, 2, (144_403_048, 24.689), 70.6, 77.0, 81.3, 77.7, 79.3),
    _record(50, 3, (217_342_120, 36.082)),
    _selective(50, 3, (321_638_600, 55.531)),
    _record(101, 1, (44_549_160, 7.801), 62.1, 71.4, 78.2, 73.6, 78.0),
    _selective(101, 1, (66_711_304, 11.857), 68.3, 75.1, 80.6, 76.3, 79.6),
    _record(101, 2, (173_868_136, 30.965), 69.1, 75.8, 80.7, 77.0, 78.9),
    _selective(101, 2, (261_229_224, 47.400), 73.2, 78.8, 82.4, 79.0, 80.1),
    _record(101, 3, (387_957_928, 69.492)),
    _selective(101, 3, (584_405_288, 106.631)),
    _record(152, 1, (60_192_808, 11.514), 64.0, 73.0, 79.3, 74.5, 78.3),
    _selective(152, 1, (90_989_896, 17.535), 70.0, 76.5, 81.3, 77.2, 79.9),
    _record(152, 2, (236_350_568, 45.814), 70.2, 76.6, 81.1, 77.4, 79.1),
    _selective(152, 2, (357_495_528, 70.111), 74.2, 79.4, 82.9, 79.4, 80.4),
    _record(152, 3, (528_474_280, 102.902)),
    _selective(152, 3, (800_849_160, 157.730), 74.9, 80.1, 83.1, 79.8, 80.5),
)
