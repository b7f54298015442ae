"""Scaled: what is gained when random crops are cut from smaller decodings, and what it changes.

    python -m tests.bench.scaled

Two photographs and two images of noise with their spectrum, as JPEGs of two sizes. Prints one JSON
line. `views` compares the views of a training with the same crops of whole decodings:

    speed       processor time by whole decoding, over that of the view
    difference  mean absolute difference of their pixels, of 255
    worst       the same of the worst crop

`oversize` has, for crops of 1 and of 2 pixels for each of their target, decoded at 1/4:

    difference  mean absolute difference to those of whole decoding
    filters     mean absolute difference between bilinear and bicubic, to compare with
"""

import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_images

from tasks.images import Box, Limits, Pixels, Scaled, decode_scaled, random_box
from tasks.train.data.views import View
from tests.builders.photos import spectral_photo

SIZES, TARGETS = ((500, 375), (2000, 1500)), (64, 160, 224)
MIN_AREA, CROPS = 0.08, 30
SCALE = 4  # at which oversizes are compared


def jpegs(width: int, height: int) -> list[bytes]:
    photos = [Image.fromarray(pixels_HWC) for pixels_HWC in load_sample_images().images]
    images = [np.asarray(photo.resize((width, height))) for photo in photos]
    images += [spectral_photo(width, height, seed) for seed in range(2)]
    return [simplejpeg.encode_jpeg(image, quality=90, colorsubsampling="420") for image in images]


def whole(data: bytes) -> Scaled:
    return decode_scaled(data, Limits(), lambda _width, _height: 1)


def whole_view(data: bytes, size: int, position: int) -> Pixels:
    image, rng = whole(data), np.random.default_rng([0, position])
    box = random_box(image.width, image.height, MIN_AREA, rng)
    return image.crop(box, size, "bilinear")


def difference(first: Pixels, second: Pixels) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def timed(work: Callable[[], Pixels]) -> tuple[float, Pixels]:
    """Seconds of the processor, and what was made."""
    started = time.thread_time()
    made = work()
    return time.thread_time() - started, made


def view_figures(datas: Sequence[bytes], size: int) -> dict[str, float]:
    view = View(size, size, MIN_AREA, seed=0)
    seconds, differences = [], []
    for position, data in enumerate([*datas] * CROPS):
        one, found = timed(lambda: view.read(data, position)[0])  # noqa: B023  # called at once
        all_, expected = timed(lambda: whole_view(data, size, position))  # noqa: B023
        seconds.append((all_, one))
        differences.append(difference(found, expected))
    whole_seconds, view_seconds = np.sum(seconds, axis=0)
    return {
        "speed": round(whole_seconds / view_seconds, 2),
        "difference": round(float(np.mean(differences)), 2),
        "worst": round(max(differences), 2),
    }


def oversize_figures(datas: Sequence[bytes], oversize: int) -> dict[str, float]:
    rng, rows = np.random.default_rng(0), []
    for data in datas:
        small, complete = decode_scaled(data, Limits(), lambda _width, _height: SCALE), whole(data)
        for left, top in rng.integers(0, 50, (CROPS, 2)).tolist():
            box, size = Box(left, top, 320, 320), 320 // oversize // SCALE
            found, expected = (image.crop(box, size, "bilinear") for image in (small, complete))
            filters = difference(complete.crop(box, size, "bicubic"), expected)
            rows.append((difference(found, expected), filters))
    means = np.mean(rows, axis=0).round(2).tolist()
    return dict(zip(("difference", "filters"), means, strict=True))


def main() -> None:
    images = {f"{width}x{height}": jpegs(width, height) for width, height in SIZES}
    line = {
        "views": {
            name: {str(size): view_figures(datas, size) for size in TARGETS}
            for name, datas in images.items()
        },
        "oversize": {
            str(oversize): oversize_figures(images["500x375"], oversize) for oversize in (1, 2)
        },
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
