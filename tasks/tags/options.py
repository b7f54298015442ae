"""Options of the stage `tags`."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.options import Options


class TagOptions(Options):
    """Which classes the tags of images teach, and how often images of rare ones are taken."""

    # What it says is in the fingerprint, whatever it is called.
    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"table"})

    table: str = ""
    """A list (.csv, .jsonl) with the columns tag and class; empty makes each tag its own class."""
    min_images: int = Field(1, ge=1, le=1_000_000_000)
    """A class with fewer tagged images is left out."""
    max_classes: int = Field(17_000, ge=2, le=65_535)
    """Only so many classes are kept: those with the most tagged images."""
    resampling: Literal["square_root", "none"] = "square_root"
    """Images of rare classes are repeated, so that a class counts by the root of its size."""
    max_repeats: int = Field(10, ge=1, le=10_000)
    """An image is taken at most so many times."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides which images of a class are taken once more, where its repeats are no integer."""
