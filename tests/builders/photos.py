"""Photos: pieces of those that scikit-learn ships, noise like them, and what befalls photos."""

import io

import numpy as np
from PIL import Image

from tasks.images import Pixels


def crops(count: int, seed: int) -> list[Pixels]:
    """Square pieces of 96 to 400 pixels, anywhere."""
    # Imported here: a benchmark that needs none of them runs without scikit-learn.
    from sklearn.datasets import load_sample_images

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


def spectral_photo(width: int, height: int, seed: int) -> Pixels:
    """Noise with the spectrum of photographs, shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitudes = 1 / np.maximum(frequencies, 1 / max(width, height)) ** 1.3
    phases = np.exp(2j * np.pi * rng.random((4, *amplitudes.shape)))
    layers = [np.fft.irfft2(amplitudes * phases_HF, (height, width)) for phases_HF in phases]
    light, *colours = [layer / layer.std() for layer in layers]
    image_HWC = np.stack([0.8 * light + 0.4 * colour for colour in colours], 2)
    return (120 + 45 * image_HWC).clip(0, 255).astype(np.uint8)
