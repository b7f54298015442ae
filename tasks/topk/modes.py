"""Modes: the ways to choose, a record for each.

In: the name of a mode, the option `topk.mode`. Out: which pairs (image, class) are candidates, in
which groups and by which value they compete, and the words for it. All else is the same in every
mode. docs/topk.md compares the modes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal[
    "per_class",
    "overall",
    "random_per_class",
    "threshold_balance",
    "tagged",
    "random_tagged",
]


@dataclass(frozen=True)
class ModeRules:
    """What a mode does.

    In sentences, `{count}` is the number of chosen pairs and `{options}` are the `TopkOptions`.
    """

    candidates: Literal["best_classes", "best_class", "tags"]
    """An image is a candidate for its P best classes, for its best class, or for its tags."""
    chosen: str
    """What the student learns from: "<chosen>, at most 20 of each class, were chosen"."""
    candidacy: str
    """What makes an image a candidate: "only 12 images <candidacy>"."""
    remedy: str
    """What to do when a class has no candidate: "<remedy>, or label more images of it"."""
    certification: Literal["by_bound", "always", "never"]
    """Whether a class is certified: if its last image is above a bound (docs/topk.md), or never.

    `always` is for modes in which no class is cut off from an image.
    """
    random: bool = False
    """Whether candidates compete by a random value that follows from the image, not by score."""
    across_classes: bool = False
    """Whether all candidates compete with one another, not only those of a class."""
    above_threshold: bool = False
    """Whether a candidate has a probability above `topk.threshold`."""
    repeats: bool = False
    """Whether a class with fewer than K images repeats them."""

    @property
    def by_tag(self) -> bool:
        """Whether tags make an image a candidate."""
        return self.candidates == "tags"

    @property
    def best_class_only(self) -> bool:
        """Whether an image is a candidate for its best class alone."""
        return self.candidates == "best_class"


AMONG_BEST = "have it among their {options.top_p} best classes"
RAISE_TOP_P = "raise topk.top_p (now {options.top_p})"
CARRY_TAG = "carry its tag"
NEED_TAGS = "the images need tags that are called like the classes"

MODES: Mapping[Mode, ModeRules] = {
    "per_class": ModeRules(
        candidates="best_classes",
        chosen="the {count} it was surest of",
        candidacy=AMONG_BEST,
        remedy=RAISE_TOP_P,
        certification="by_bound",
    ),
    "overall": ModeRules(
        candidates="best_classes",
        chosen="the {count} it was surest of, of whatever class",
        candidacy=AMONG_BEST,
        remedy=RAISE_TOP_P,
        certification="by_bound",
        across_classes=True,
    ),
    "random_per_class": ModeRules(
        candidates="best_class",
        chosen="{count} drawn at random",
        candidacy="have it as their best class",
        remedy="choose another topk.mode",
        certification="never",
        random=True,
    ),
    "threshold_balance": ModeRules(
        candidates="best_class",
        chosen="{count} with a probability above {options.threshold:g}",
        candidacy="have it as their best class with a probability above {options.threshold:g}",
        remedy="lower topk.threshold (now {options.threshold:g})",
        certification="never",
        above_threshold=True,
        repeats=True,
    ),
    "tagged": ModeRules(
        candidates="tags",
        chosen="of those with the tag of a class, the {count} it was surest of",
        candidacy=CARRY_TAG,
        remedy=NEED_TAGS,
        certification="always",
    ),
    "random_tagged": ModeRules(
        candidates="tags",
        chosen="{count} drawn at random among those with the tag of a class",
        candidacy=CARRY_TAG,
        remedy=NEED_TAGS,
        certification="never",
        random=True,
    ),
}
