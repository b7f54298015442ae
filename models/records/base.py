"""The record of a network: its builder, inputs, size, and what its published weights reach.

NetworkRecord("resnet18", "resnet", build_resnet18, PublishedInputs(224), 11_689_512, 1.814)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.network import Network

Builder = Callable[[int], "Network"]
# How weights were trained. All but the first use images without labels of the test's classes.
Method = Literal[
    "supervised",
    "semi-supervised",
    "semi-weakly supervised",
    "weakly supervised",
    "Noisy Student",
    "SimCLRv2, 1% of labels",
    "SimCLRv2, 10% of labels",
    "SimCLRv2, all labels",
    "SimCLRv2, linear",
]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM_RESULTS = "timm, results/results-imagenet.csv"


@dataclass(frozen=True)
class PublishedInputs:
    """What published weights expect of an image.

    `size` is the side of the network's input in pixels, a central square of the scaled image;
    `crop` is its share of the shorter side. `mean` and `std` are those of red, green and blue in
    [0, 1]. A network of videos takes clips of `frames` images.
    """

    size: int
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    frames: int | None = None

    @property
    def resize(self) -> int:
        """Pixels that the shorter side of an image is scaled to, before the square is cut out."""
        return math.floor(self.size / self.crop)


@dataclass(frozen=True)
class PublishedAccuracy:
    """Accuracy of published weights in percent, on the validation set of ImageNet-1k by default."""

    weights: str
    method: Method
    top1: float
    top5: float | None
    source: str
    data: str = "ImageNet-1k"


@dataclass(frozen=True)
class NetworkRecord:
    """A network before it is built.

    `inputs` are those of its published weights; other sizes work as well. `num_parameters` and
    `gmacs`, billions of multiply-adds for one input of that size, are those with 1,000 classes.
    """

    name: str
    family: str
    build: Builder
    inputs: PublishedInputs
    num_parameters: int
    gmacs: float
    published: tuple[PublishedAccuracy, ...] = ()

    @property
    def input_size(self) -> int:
        """The side of the square input in pixels."""
        return self.inputs.size

    def best(self, *, supervised: bool) -> PublishedAccuracy | None:
        """The published weights of the highest top-1: supervised ones, or those of a method."""
        found = [
            accuracy
            for accuracy in self.published
            if (accuracy.method == "supervised") == supervised
        ]
        return max(found, key=lambda accuracy: accuracy.top1, default=None)
