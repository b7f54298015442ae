"""Options of the stage `gather`."""

from typing import Literal

from pydantic import Field

from tasks.options import Options

PseudoLabels = Literal["hard", "soft"]


class GatherOptions(Options):
    """How images become a training set."""

    multi_label: Literal["replicate", "sample_one", "share"] = "replicate"
    """An image chosen for k classes: a lesson for each, one of them at random, or 1/k of each."""
    pseudo_labels: PseudoLabels = "hard"
    """A chosen image teaches its class, or the score.top_p best ones with their probabilities."""
    percent_of_class: float = Field(100, ge=0.001, le=100)
    """Of labelled images, only this share of each class, at least one: 1 % is part of 10 %."""
    lessons_per_part: int = Field(10_000, ge=1, le=1_000_000)
    """Training images in a part."""
    mib_per_part: int = Field(256, ge=1, le=65_536)
    """A part has about so many MiB of images at most, too: training holds several in memory."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the order of the lessons, the images of a share, and which class sample_one takes."""

    @property
    def whole(self) -> "GatherOptions":
        """The same of all images."""
        return self.model_copy(update={"percent_of_class": 100.0})

    @property
    def sharing(self) -> "GatherOptions":
        """The same of all tagged images, in which one of k classes teaches each of them 1/k."""
        return self.whole.model_copy(update={"multi_label": "share", "pseudo_labels": "hard"})

    def count_labelled(self, images: int, classes: int) -> int:
        """About how many of so many labelled images of all classes are taken."""
        return max(min(images, classes), round(images * self.percent_of_class / 100))
