"""Options of the stage `topk`, and what the modes of choosing have in common.

A mode says which pairs (image, class) are candidates, in which groups they compete, how many of
each group are kept, and by which value. All else is the same for all of them.
"""

import math
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tasks.options import Options

Mode = Literal[
    "per_class",
    "overall",
    "random_per_class",
    "threshold_balance",
    "tagged",
    "random_tagged",
]


class TopkOptions(Options):
    """Options of the stage `topk`."""

    k: int = Field(16_000, ge=1, le=100_000_000)
    """Images chosen for each class (the paper's K)."""
    top_p: int = Field(10, ge=1, le=1000)
    """An image is a candidate for its P best classes; at most the P that was scored."""
    mode: Mode = "per_class"
    """How they are chosen; docs/topk.md compares the ways."""
    threshold: float = Field(0.3, ge=0.01, le=0.99)
    """With threshold_balance, the probability that an image must exceed."""
    drop_near_duplicates: bool = True
    """Copies of an image count once in a class; those of labelled and test images never."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the random choices."""

    @property
    def random(self) -> bool:
        """Whether chance decides, and not the score."""
        return self.mode in ("random_per_class", "random_tagged")

    @property
    def by_tag(self) -> bool:
        """Whether an image is a candidate for the classes whose tag it carries."""
        return self.mode in ("tagged", "random_tagged")

    @property
    def across_classes(self) -> bool:
        """Whether all classes compete with one another."""
        return self.mode == "overall"

    @property
    def best_class_only(self) -> bool:
        """Whether an image is a candidate for its best class alone."""
        return self.mode in ("random_per_class", "threshold_balance")

    @property
    def min_log_odds(self) -> np.float32:
        """The least log-odds of a candidate."""
        if self.mode != "threshold_balance":
            return np.float32(-np.inf)
        least = math.log(self.threshold / (1 - self.threshold))
        nearest = np.float32(least)
        return nearest if nearest > least else np.nextafter(nearest, np.float32(np.inf))

    def width(self, scored_p: int) -> int:
        """How many of an image's best classes it is a candidate for."""
        return 1 if self.best_class_only else min(self.top_p, scored_p)

    def content(self) -> dict[str, Any]:
        """Without what the mode does not use."""
        unused: dict[str, Any] = {}
        if not self.random:
            unused["seed"] = 0
        if self.mode != "threshold_balance":
            unused["threshold"] = 0
        if self.best_class_only or self.by_tag:
            unused["top_p"] = 0
        return {**super().content(), **unused}
