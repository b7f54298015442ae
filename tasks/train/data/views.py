"""Views: from a decoded image to the pixels of a training sample.

In: uint8 pixels (H, W, 3). Out: uint8 pixels (S, S, 3). Random crops are drawn from the seed and
the position in the stream, so the same sample is cropped differently in every epoch. All other
random changes are made to whole batches (models/augment.py).
"""

from dataclasses import dataclass

import numpy as np

from tasks.images import Interpolation, Pixels, random_crop, square
from tasks.train.options import TrainOptions


@dataclass(frozen=True)
class View:
    """A square of `size` pixels: a random crop, or the central square for `crop_min_area` = 1."""

    size: int
    resize: int
    crop_min_area: float
    seed: int
    interpolation: Interpolation = "bilinear"

    @staticmethod
    def of(options: TrainOptions) -> "View":
        """The view of a training."""
        inputs, min_area = options.inputs, options.augment.crop_min_area
        return View(inputs.size, inputs.resize, min_area, options.seed, inputs.interpolation)

    @property
    def is_fixed(self) -> bool:
        """Whether an image gives the same pixels at every position, so that they can be cached."""
        return self.crop_min_area == 1

    def crop(self, pixels_HWC: Pixels, position: int, view: int = 0) -> Pixels:
        """The pixels of the sample at this position, shape (S, S, 3); each view has its own."""
        if self.is_fixed:
            return square(pixels_HWC, self.size, self.resize, self.interpolation)
        # numpy takes trailing zeros for nothing: the first view is that of a training with one.
        rng = np.random.default_rng([self.seed, position, view])
        return random_crop(pixels_HWC, self.size, self.crop_min_area, rng, self.interpolation)
