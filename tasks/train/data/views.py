"""Views: from the bytes of an image to the pixels of a training sample.

In: encoded bytes. Out: uint8 pixels (S, S, 3), one or several times. Random crops are drawn from
the seed and the position in the stream, so the same sample is cropped differently in every epoch.
All other random changes are made to whole batches (models/augment.py).

A JPEG is decoded smaller where its crops still have twice the pixels of their targets
(tasks/images/scaled.py). Only random crops are: the fixed view is what a network is scored,
evaluated and asked with, so it is made from every pixel. Otherwise a picture would be another one
as a PNG or a PIL image, and whoever uses an exported model would need our decoder. Scoring would
gain nothing on photographs of 500 x 375 pixels, whose shorter side is less than twice 256.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.images import (
    Box,
    Interpolation,
    Limits,
    Pixels,
    decode,
    decode_scaled,
    random_box,
    scale_for,
    square,
)
from tasks.train.options import TrainOptions


@dataclass(frozen=True)
class View:
    """A square of `size` pixels: random crops, or the central square for `crop_min_area` = 1."""

    size: int
    resize: int
    crop_min_area: float
    seed: int
    interpolation: Interpolation = "bilinear"
    num_views: int = 1

    @staticmethod
    def of(options: TrainOptions, num_views: int = 1) -> "View":
        """The view of a training."""
        inputs, min_area = options.inputs, options.augment.crop_min_area
        return View(
            inputs.size, inputs.resize, min_area, options.seed, inputs.interpolation, num_views
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the pixels of a sample."""
        return self.size, self.size, 3

    @property
    def is_fixed(self) -> bool:
        """Whether an image gives the same pixels at every position, so that they can be cached."""
        return self.crop_min_area == 1

    def read(self, data: bytes, position: int) -> list[Pixels]:
        """The views of the image at this position, (S, S, 3) each. Raises Unusable."""
        if self.is_fixed:
            pixels_HWC = decode(data, Limits())
            square_HWC = square(pixels_HWC, self.size, self.resize, self.interpolation)
            # Of its own: a cached part of an image would keep all of it in memory.
            return [np.ascontiguousarray(square_HWC)] * self.num_views
        boxes_of = functools.cache(functools.partial(self._boxes, position))
        # Decoded once, so the view that needs most decides for all.
        scaled = decode_scaled(data, Limits(), lambda *size: scale_for(boxes_of(*size), self.size))
        boxes = boxes_of(scaled.width, scaled.height)
        return [scaled.crop(box, self.size, self.interpolation) for box in boxes]

    def _boxes(self, position: int, width: int, height: int) -> Sequence[Box]:
        # numpy takes trailing zeros for nothing: the first box is that of a training with one view.
        seeds = [[self.seed, position, view] for view in range(self.num_views)]
        rngs = map(np.random.default_rng, seeds)
        return [random_box(width, height, self.crop_min_area, rng) for rng in rngs]
