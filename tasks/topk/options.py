"""Options of the stage `topk`."""

import math
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from tasks.options import Options
from tasks.topk.modes import MODES, Mode, ModeRules


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
    """Near-duplicates count once in a class; those of labelled and test images never."""
    drop_crops: bool = False
    """Crops and brighter copies count as near-duplicates; of photos, with score.descriptors."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the random choices."""

    @model_validator(mode="after")
    def _crops_are_near_duplicates(self) -> "TopkOptions":
        if self.drop_crops and not self.drop_near_duplicates:
            raise ValueError("drop_crops needs drop_near_duplicates=true")
        return self

    @property
    def rules(self) -> ModeRules:
        """What the mode does."""
        return MODES[self.mode]

    @property
    def min_log_odds(self) -> np.float32:
        """The least log-odds of a candidate: the first float32 above those of the threshold."""
        if not self.rules.above_threshold:
            return np.float32(-np.inf)
        bound = math.log(self.threshold / (1 - self.threshold))
        nearest = np.float32(bound)
        return nearest if nearest > bound else np.nextafter(nearest, np.float32(np.inf))

    def width(self, scored_p: int) -> int:
        """How many of an image's best classes it is a candidate for."""
        return 1 if self.rules.best_class_only else min(self.top_p, scored_p)

    def content(self) -> dict[str, Any]:
        """The fields that can change a result, without those that the mode does not use."""
        unused: dict[str, Any] = {}
        if not self.rules.random:
            unused["seed"] = 0
        if not self.rules.above_threshold:
            unused["threshold"] = 0
        if self.rules.candidates != "best_classes":
            unused["top_p"] = 0
        return {**super().content(), **unused}
