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
    Scaled,
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
        """Whether an image gives the same pixels at every position, whatever the seed."""
        return self.crop_min_area == 1

    def read(self, data: bytes, position: int) -> list[Pixels]:
        """The views of the image at this position, (S, S, 3) each. Raises Unusable."""
        return self.read_again(data, position, None)[0]

    def read_again(
        self, data: bytes, position: int, decoded: Scaled | None
    ) -> tuple[list[Pixels], Scaled]:
        """The same, and the decoded image that the views were cut from.

        With such an image, of another position, it is decoded again only where these views need
        another scale. Raises Unusable.
        """
        if self.is_fixed:
            decoded = decoded or self._square(data)
            return [decoded.pixels_HWC] * self.num_views, decoded
        boxes_of = functools.cache(functools.partial(self._boxes, position))

        def scale_of(width: int, height: int) -> int:
            # Decoded once, so the view that needs most decides for all.
            return scale_for(boxes_of(width, height), self.size)

        if decoded is None or not decoded.serves(scale_of):
            decoded = decode_scaled(data, Limits(), scale_of)
        boxes = boxes_of(decoded.width, decoded.height)
        return [decoded.crop(box, self.size, self.interpolation) for box in boxes], decoded

    def _square(self, data: bytes) -> Scaled:
        pixels_HWC = decode(data, Limits())
        square_HWC = square(pixels_HWC, self.size, self.resize, self.interpolation)
        # Of its own: a part of an image would keep all of it in memory.
        return Scaled(np.ascontiguousarray(square_HWC), self.size, self.size)

    def _boxes(self, position: int, width: int, height: int) -> Sequence[Box]:
        # numpy takes trailing zeros for nothing: the first box is that of a training with one view.
        seeds = [[self.seed, position, view] for view in range(self.num_views)]
        rngs = map(np.random.default_rng, seeds)
        return [random_box(width, height, self.crop_min_area, rng) for rng in rngs]
