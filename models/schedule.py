"""Schedule: the learning rate of each step, as a pure function.

"Accurate, large minibatch SGD" (Goyal et al. 2017), section 2.1 and 2.2: the rate grows with the
batch, and warms up linearly. "Billion-scale semi-supervised learning" (Yalniz et al. 2019) halves
it at 13 equally spaced points in pre-training, and divides it by 10 at three in fine-tuning.
"""

import math
from dataclasses import dataclass
from typing import Literal

IMAGES_PER_BASE_RATE = 256


def scaled_rate(base_rate: float, batch_size: int) -> float:
    """The learning rate for a batch, given the one for 256 images: base / 256 * batch."""
    return base_rate / IMAGES_PER_BASE_RATE * batch_size


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then a decay. Steps count from 0; `peak_rate` is already scaled to the batch."""

    total_steps: int
    warmup_steps: int
    warmup_start_rate: float
    peak_rate: float
    kind: Literal["cosine", "step"]
    num_steps_down: int
    gamma: float

    def rate(self, step: int) -> float:
        """The learning rate of this step."""
        if step < self.warmup_steps:
            share = (step + 1) / self.warmup_steps
            return self.warmup_start_rate + share * (self.peak_rate - self.warmup_start_rate)
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.kind == "cosine":
            return self.peak_rate * 0.5 * (1 + math.cos(math.pi * done))
        # n steps down at equally spaced points cut the time into n + 1 equal pieces.
        return self.peak_rate * float(self.gamma ** math.floor(done * (self.num_steps_down + 1)))
