"""Transform: from decoded pixels to the input of a network.

In: uint8 RGB pixels (H, W, 3). Out: a square of the size that the network expects.

    pixels_SSC = square(pixels_HWC, size=224, resize=256)
"""

import numpy as np
from PIL import Image

from tasks.images.decode import Pixels

MAX_ASPECT = 16  # of the strip that `square` scales; the square takes only its middle anyway


def square(pixels_HWC: Pixels, size: int, resize: int) -> Pixels:
    """The shorter side scaled to `resize` (bilinear, antialiased), then the central square.

    Returns (size, size, 3); this is the evaluation transform of the papers (256 -> 224).
    """
    pixels_HWC = _middle(pixels_HWC)
    height, width = pixels_HWC.shape[:2]
    scale = resize / min(height, width)
    target = (max(size, round(width * scale)), max(size, round(height * scale)))
    if target != (width, height):
        image = Image.fromarray(pixels_HWC).resize(target, Image.Resampling.BILINEAR)
        pixels_HWC = np.asarray(image)
    top = (pixels_HWC.shape[0] - size) // 2
    left = (pixels_HWC.shape[1] - size) // 2
    return pixels_HWC[top : top + size, left : left + size]


def random_crop(pixels_HWC: Pixels, size: int, min_area: float, rng: np.random.Generator) -> Pixels:
    """Random-resized crop: a part of the area, aspect 3/4 to 4/3, scaled to (size, size, 3)."""
    height, width = pixels_HWC.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        crop_width, crop_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(0, width - crop_width + 1))
            top = int(rng.integers(0, height - crop_height + 1))
            box = (left, top, left + crop_width, top + crop_height)
            image = Image.fromarray(pixels_HWC)
            return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return square(pixels_HWC, size, size)


def _middle(pixels_HWC: Pixels) -> Pixels:
    """The middle of a very long strip; scaled whole, one of a single row would need gigabytes."""
    height, width = pixels_HWC.shape[:2]
    longest = MAX_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels_HWC[top : top + longest, left : left + longest]
