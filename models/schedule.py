"""Schedule: the learning rate, as a pure function of the images that were seen.

    schedule = Schedule(total_images=1e9, warmup_images=8e7, ..., kind="cosine", ...)
    schedule.rate(images)
    schedule.step_rate(step, batch_size)

Images, not steps: so the curve is the same for every batch size.

linear scaling, warm-up   "Accurate, large minibatch SGD" (Goyal et al. 2017), sections 2.1 and 2.2
sqrt scaling, cosine      "Big self-supervised models" (SimCLRv2, Chen et al. 2020), appendix B.1:
                          0.1 * sqrt(4096) = 6.4
step                      "Billion-scale semi-supervised learning" (Yalniz et al. 2019): halved at
                          13 equally spaced points in pre-training, a tenth at three in fine-tuning
exponential               "EfficientNet" (Tan and Le 2019), section 5.2: times 0.97 every 2.4 epochs
"""

import math
from dataclasses import dataclass
from typing import Literal

IMAGES_PER_BASE_RATE = 256

Scaling = Literal["linear", "sqrt"]
Kind = Literal["cosine", "step", "exponential"]


def scaled_rate(base_rate: float, batch_size: int, scaling: Scaling = "linear") -> float:
    """The learning rate for a batch.

    `base_rate` is that for a batch of 256 images with linear scaling, of one image with sqrt.
    """
    if scaling == "sqrt":
        return base_rate * math.sqrt(batch_size)
    return base_rate / IMAGES_PER_BASE_RATE * batch_size


@dataclass(frozen=True)
class Schedule:
    """Warm-up, then decay, in images; `peak_rate` is already scaled to the batch.

    `num_steps_down` is of the kind `step` alone, `gamma_images`, after which the rate decreases
    again, of `exponential`, and `gamma`, the factor of each decrease, of both.
    """

    total_images: float
    warmup_images: float
    warmup_start_rate: float
    peak_rate: float
    kind: Kind
    num_steps_down: int
    gamma: float
    gamma_images: float

    def rate(self, images: float) -> float:
        """The learning rate after so many images."""
        if images < self.warmup_images:
            return self._warmup_rate(images)
        if self.kind == "exponential":
            # From the first image on, the warm-up included, as in efficientnet/utils.py.
            return self.peak_rate * float(self.gamma ** math.floor(images / self.gamma_images))
        rest = self.total_images - self.warmup_images
        progress = min(1.0, (images - self.warmup_images) / rest) if rest > 0 else 0.0
        if self.kind == "cosine":
            return self.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))
        # n steps down at equally spaced points cut the time into n + 1 equal pieces.
        return self.peak_rate * float(
            self.gamma ** math.floor(progress * (self.num_steps_down + 1))
        )

    def step_rate(self, step: int, batch_size: int) -> float:
        """The learning rate of a step, which are counted from 0: the rate at its first image.

        In the warm-up it is that at its last image, or a warm-up from 0 would waste the first step.
        """
        first = step * batch_size
        if first < self.warmup_images:
            return self._warmup_rate(min(first + batch_size, self.warmup_images))
        return self.rate(first)

    def _warmup_rate(self, images: float) -> float:
        progress = images / self.warmup_images
        return self.warmup_start_rate + progress * (self.peak_rate - self.warmup_start_rate)
