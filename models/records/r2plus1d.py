"""R(2+1)D, the networks of the paper's videos. Accuracies are those on Kinetics-400."""

from typing import TYPE_CHECKING

from models.records.base import Method, NetworkRecord, PublishedAccuracy, PublishedInputs
from models.records.resnet import R50

if TYPE_CHECKING:
    from models.network import Network

# Frames are scaled to 128 pixels; mean and deviation are Kinetics-400's.
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def _inputs(frames: int) -> PublishedInputs:
    return PublishedInputs(112, 112 / 128, "bilinear", MEAN, STD, frames)


def _kinetics(
    weights: str, method: Method, top1: float, source: str, top5: float | None = None
) -> PublishedAccuracy:
    return PublishedAccuracy(weights, method, top1, top5, source, "Kinetics-400")


def _build_18(num_classes: int) -> "Network":
    from models.networks.r2plus1d import R2Plus1D

    return R2Plus1D((2, 2, 2, 2), num_classes)


def _build_34(num_classes: int) -> "Network":
    from models.networks.r2plus1d import R2Plus1D

    return R2Plus1D(R50, num_classes, exact=True)


PAPER = "Yalniz et al. 2019, Kinetics; clips of 32 frames"
R2PLUS1DS = (
    NetworkRecord(
        "r2plus1d_18",
        "r2plus1d",
        _build_18,
        _inputs(16),
        31_813_125,
        40.519,
        (
            _kinetics(
                "R2Plus1D_18_Weights.KINETICS400_V1", "supervised", 67.463, "torchvision", 86.175
            ),
            _kinetics("paper's baseline", "supervised", 69.3, PAPER),
            _kinetics("paper's student", "semi-weakly supervised", 76.7, PAPER),
        ),
    ),
    NetworkRecord("r2plus1d_34", "r2plus1d", _build_34, _inputs(16), 64_004_975, 76.178),
)
