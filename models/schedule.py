"""Schedule: the learning rate of each step, as a pure function.

    schedule = Schedule(total_steps=1000, warmup_steps=50, ..., kind="cosine", ...)
    schedule.rate(step)

"Accurate, large minibatch SGD" (Goyal et al. 2017), sections 2.1 and 2.2: the rate is proportional
to the batch, and warms up linearly. "Billion-scale semi-supervised learning" (Yalniz et al. 2019)
halves it at 13 equally spaced points in pre-training, and divides it by 10 at three in fine-tuning.
"""

import math
from dataclasses import dataclass
from typing import Literal

IMAGES_PER_BASE_RATE = 256


def scaled_rate(base_rate: float, batch_size: int) -> float:
    """The learning rate for a batch; `base_rate` is that for a batch of 256 images."""
    return base_rate / IMAGES_PER_BASE_RATE * batch_size


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then decay. Steps count from 0; `peak_rate` is already scaled to the batch.

    `num_steps_down` and `gamma`, the factor of each step down, are of the kind `step` alone.
    """

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
            progress = (step + 1) / self.warmup_steps
            return self.warmup_start_rate + progress * (self.peak_rate - self.warmup_start_rate)
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.kind == "cosine":
            return self.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))
        # n steps down at equally spaced points cut the time into n + 1 equal pieces.
        return self.peak_rate * float(
            self.gamma ** math.floor(progress * (self.num_steps_down + 1))
        )
