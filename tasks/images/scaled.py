"""Scaled: an image that was decoded smaller, and the parts of it that a training sees.

In: boxes in pixels of the whole image. Out: squares, cut from pixels that may be 1/2, 1/4 or 1/8 as
large, at the very places that the boxes have in the whole image.

    boxes = [random_box(width, height, 0.08, rng)]
    scaled = decode_scaled(data, Limits(), lambda width, height: scale_for(boxes, 64))
    pixels_SSC = scaled.crop(boxes[0], 64, "bilinear")

libjpeg leaves out frequencies of each block, which costs less than to decode and average them. How
large an image must stay is a choice between speed and pixels. Crops that have 2 pixels for each of
their target are off by 0.7 of 255 in the mean, and the views of a training by 0.1 to 0.3, as most
have more. With 1 pixel it would be 2.0, more than lies between bilinear and bicubic pixels (1.6),
and a network is scored on pixels of whole decodings. A photograph of 2000 x 1500 pixels takes 1.4
times less for a target of 224 px and 2.4 times less for 64 px. One of 500 x 375 takes 1.2 times
less for 64 px and no less for others, because libjpeg must read all of its bytes.

    python -m tests.bench.scaled
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from tasks.images.colours import Pixels, upright
from tasks.images.transform import FILTERS, Interpolation

MIN_OVERSIZE = 2  # pixels of a crop for each of its target, on the shorter side
SCALES = (8, 4, 2)
LOG_ASPECT = math.log(4 / 3)
TRIES = 10  # of the published crop, before it takes the central square
# From the width and height of an image to the scale at which it is decoded: 1, 2, 4 or 8.
ScaleOf = Callable[[int, int], int]
# Orientations (EXIF) that swap width and height, and those whose left or top edge is where the rows
# or columns of the file end.
TURNED = frozenset({5, 6, 7, 8})
FROM_RIGHT, FROM_BELOW = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8})


@dataclass(frozen=True)
class Box:
    """A part of an image, in pixels of the whole one."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Scaled:
    """Pixels of a whole image, shape (ceil(height / scale), ceil(width / scale), channels).

    Where the scale does not divide its size, the last pixels of the file's rows and columns lie
    in part beside the image; `left` and `top` are the widths of these parts where they come first.
    `has_scales` says whether the file can be decoded at other scales.
    """

    pixels_HWC: Pixels
    width: int
    height: int
    scale: int = 1
    left: float = 0.0
    top: float = 0.0
    has_scales: bool = False

    def upright(self, orientation: int) -> "Scaled":
        """Undo the EXIF orientation of the file, 1 to 8."""
        pixels_HWC = np.ascontiguousarray(upright(self.pixels_HWC, orientation))
        is_turned = orientation in TURNED
        width, height = (self.height, self.width) if is_turned else (self.width, self.height)
        left = pixels_HWC.shape[1] - width / self.scale if orientation in FROM_RIGHT else 0.0
        top = pixels_HWC.shape[0] - height / self.scale if orientation in FROM_BELOW else 0.0
        return replace(self, pixels_HWC=pixels_HWC, width=width, height=height, left=left, top=top)

    def serves(self, scale_of: ScaleOf) -> bool:
        """Whether this is what decoding would give at the scale that is asked for."""
        return not self.has_scales or self.scale == scale_of(self.width, self.height)

    def crop(self, box: Box, size: int, interpolation: Interpolation) -> Pixels:
        """A part of the whole image, scaled (antialiased) to (size, size, 3)."""
        left, top = self.left + box.left / self.scale, self.top + box.top / self.scale
        part = (left, top, left + box.width / self.scale, top + box.height / self.scale)
        image = Image.fromarray(self.pixels_HWC)
        return np.asarray(image.resize((size, size), FILTERS[interpolation], box=part))


def scale_for(boxes: Sequence[Box], size: int) -> int:
    """The scale, 1 to 8, at which each box is still MIN_OVERSIZE times its target."""
    shortest = min(min(box.width, box.height) for box in boxes)
    return next((scale for scale in SCALES if shortest >= MIN_OVERSIZE * size * scale), 1)


def random_box(width: int, height: int, min_area: float, rng: np.random.Generator) -> Box:
    """Random-resized crop: a part of the area, aspect 3/4 to 4/3; else the central square."""
    for _ in range(TRIES):
        # By `math`: numpy takes several times as long for single numbers, and holds the lock.
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = math.exp(rng.uniform(-LOG_ASPECT, LOG_ASPECT))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.integers(0, width - box_width + 1))
            top = int(rng.integers(0, height - box_height + 1))
            return Box(left, top, box_width, box_height)
    side = min(width, height)
    return Box((width - side) // 2, (height - side) // 2, side, side)
