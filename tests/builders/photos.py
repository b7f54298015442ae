"""Photos: pieces of the two that scikit-learn ships, and what happens to photos on their way."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from tasks.images import Pixels


def crops(count: int, seed: int) -> list[Pixels]:
    """Square pieces of 96 to 400 pixels, anywhere."""
    rng, photos, found = np.random.default_rng(seed), load_sample_images().images, []
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(rng.integers(96, 400))
        top, left = (int(rng.integers(0, room - side + 1)) for room in photo.shape[:2])
        found.append(np.ascontiguousarray(photo[top : top + side, left : left + side]))
    return found


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Stored as a JPEG."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def scaled(pixels: Pixels, factor: float) -> Pixels:
    """Made smaller or larger."""
    height, width = (max(16, round(side * factor)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
