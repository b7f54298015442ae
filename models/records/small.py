"""Small networks, for inputs of 28 to 64 pixels and for tests. They have no published weights."""

from typing import TYPE_CHECKING

from models.records.base import NetworkRecord, PublishedInputs
from models.records.resnet import resnet

if TYPE_CHECKING:
    from models.network import Network

INPUTS = PublishedInputs(32)


def _small_resnet(width: int, num_parameters: int, gmacs: float) -> NetworkRecord:
    """A ResNet of three blocks; `width` is the channels of the first stage."""
    build = resnet("basic", (1, 1, 1), (width, 2 * width, 4 * width), small_stem=True)
    return NetworkRecord(f"small_resnet_{width}", "resnet", build, INPUTS, num_parameters, gmacs)


def _mean_colour(num_classes: int) -> "Network":
    from models.networks.mean_colour import MeanColour

    return MeanColour(num_classes)


SMALL = (
    _small_resnet(8, 52_624, 0.000841),
    _small_resnet(16, 142_392, 0.003189),
    _small_resnet(32, 436_360, 0.012408),
    NetworkRecord("mean_colour", "mean_colour", _mean_colour, INPUTS, 4_000, 0.000003),
)
