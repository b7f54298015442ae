"""Options of the stage `gather`."""

from typing import Literal

from pydantic import Field

from tasks.options import Options


class GatherOptions(Options):
    """How images become a training set."""

    multi_label: Literal["replicate", "sample_one", "share"] = "replicate"
    """An image chosen for k classes: a lesson for each, one of them at random, or 1/k of each."""
    lessons_per_part: int = Field(10_000, ge=1, le=1_000_000)
    """Training images in a part."""
    mib_per_part: int = Field(256, ge=1, le=65_536)
    """A part has about so many MiB of images at most, too: training holds several in memory."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the order of the lessons, and which class sample_one takes."""
