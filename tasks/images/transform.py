"""Transform: from decoded pixels to the input of a network.

In: uint8 RGB pixels (H, W, 3). Out: a square of the size that the network expects.

    pixels_SSC = square(pixels_HWC, size=224, resize=256)
    pixels_SSC = Inputs(size=224, resize=256).square(pixels_HWC)
"""

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from tasks.images.colours import Pixels
from tasks.options import Options

MAX_ASPECT = 16  # of the strip that `square` scales; the square takes only its middle anyway
# Mean and deviation of red, green and blue, for pixels in [0, 1].
PIXEL_SCALES = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "centred": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
Interpolation = Literal["bilinear", "bicubic"]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Inputs(Options):
    """What an image becomes before the network sees it; teacher and student may differ in size."""

    size: int = Field(224, ge=8, le=2048)
    """Pixels of each side of the network's input."""
    resize: int = Field(256, ge=8, le=4096)
    """The shorter side is scaled to this many pixels before the central square is cut out."""
    pixels: Literal["imagenet", "centred", "unit", "clip"] = "imagenet"
    """Scale of the pixels: ImageNet's mean and deviation, -1 to 1, 0 to 1, or those of CLIP."""
    interpolation: Interpolation = "bilinear"
    """How new pixels are made of old ones when an image is scaled; both are antialiased."""

    @model_validator(mode="after")
    def _resize_covers_size(self) -> "Inputs":
        if self.resize < self.size:
            raise ValueError(f"resize ({self.resize}) must be at least size ({self.size})")
        return self

    def square(self, pixels_HWC: Pixels) -> Pixels:
        """The central square of an image, of the side that the network expects: (S, S, 3)."""
        return square(pixels_HWC, self.size, self.resize, self.interpolation)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of red, green and blue, taken off pixels in [0, 1]."""
        return PIXEL_SCALES[self.pixels][0]

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation of red, green and blue, by which they are divided."""
        return PIXEL_SCALES[self.pixels][1]


def square(
    pixels_HWC: Pixels, size: int, resize: int, interpolation: Interpolation = "bilinear"
) -> Pixels:
    """The shorter side scaled to `resize` (antialiased), then the central square.

    Returns (size, size, 3); this is the evaluation transform of the papers (256 -> 224).
    """
    pixels_HWC = _middle(pixels_HWC)
    height, width = pixels_HWC.shape[:2]
    scale = resize / min(height, width)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    if (wide, high) == (width, height):
        return pixels_HWC[top : top + size, left : left + size]
    # What lies beside the square is not scaled: it has half of the pixels of a photograph.
    across, down = width / wide, height / high
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    image = Image.fromarray(pixels_HWC).resize((size, size), FILTERS[interpolation], box=box)
    return np.asarray(image)


def _middle(pixels_HWC: Pixels) -> Pixels:
    """The middle of a very long strip; scaled whole, one of a single row would need gigabytes."""
    height, width = pixels_HWC.shape[:2]
    longest = MAX_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels_HWC[top : top + longest, left : left + longest]
