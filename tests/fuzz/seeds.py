"""Seeds: sound inputs of every kind, from which cases are made.

In: nothing. Out: by kind, the files of each input by name; the first is the one to open. Pictures
of installed packages are among them.
"""

import functools
import importlib.util
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from models.registry import build
from tasks.images import Inputs
from tasks.inference.weights import Description, encode_tensors, save_weights
from tests.builders.encoded import NOISE, encoded, gif, grey_tiff

Files = dict[str, bytes]
Columns = dict[str, list[Any]]

PACKAGES = ("sklearn", "skimage", "matplotlib", "mlxtend", "scipy", "imageio")
SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm"}
MAX_BYTES, MAX_OF_PACKAGE = 100_000, 20  # of a picture; more would slow each case down
MODEL, CLASSES = "mean_colour", ("cat", "dog", "owl")


@functools.cache
def seeds() -> dict[str, list[Files]]:
    """The inputs by kind: image, source, weights (published by others), model (our own)."""
    images = [{"image": data} for data in (*_own_images(), *_of_packages())]
    return {"image": images, "source": _sources(), "weights": _weights(), "model": [_model()]}


def _own_images() -> Iterator[bytes]:
    small = NOISE.resize((24, 16))
    ways: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "JPEG": [("L", {}), ("RGB", {}), ("RGB", {"progressive": True}), ("CMYK", {})],
        "MPO": [("RGB", {"save_all": True, "append_images": [small]})],
        "PNG": [(mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        "GIF": [("P", {}), ("L", {}), ("P", {"save_all": True, "append_images": [small]})],
        "WEBP": [("RGB", {}), ("RGBA", {"lossless": True})],
        "BMP": [(mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
        "TIFF": [(mode, {}) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")],
        "PPM": [("1", {}), ("L", {}), ("RGB", {})],
        "AVIF": [("RGB", {}), ("RGBA", {})],
    }
    ways["TIFF"] += [("RGB", {"compression": name}) for name in ("tiff_lzw", "jpeg", "packbits")]
    ways["TIFF"] += [("RGB", {"compression": name}) for name in ("tiff_adobe_deflate", "lzma")]
    ways["PNG"] += [("P", {"transparency": 3}), ("L", {"transparency": 3, "bits": 4})]
    ways["PNG"] += [("RGB", {"save_all": True, "append_images": [small]})]
    for kind, modes in ways.items():
        for mode, how in modes:
            image = small.convert("RGBA").convert(mode) if mode != "CMYK" else small.convert(mode)
            yield encoded(image, kind, **how)
    for orientation in (3, 6):
        exif = Image.Exif()
        exif[274] = orientation
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield encoded(small, kind, exif=exif)
    deep = Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24) * 170)
    yield from (encoded(deep, kind) for kind in ("PNG", "TIFF", "PPM"))
    yield b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n"
    yield gif((24, 16), (24, 16), 9, b"\x02\x4c\x01\0")
    yield grey_tiff(24, 16)


def _of_packages() -> Iterator[bytes]:
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.origin:
            continue
        paths = sorted(
            path
            for path in Path(found.origin).parent.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.stat().st_size <= MAX_BYTES
        )
        yield from (path.read_bytes() for path in paths[:: 1 + len(paths) // MAX_OF_PACKAGE])


def _sources() -> list[Files]:
    png, jpeg = (encoded(NOISE.resize((8, 8)), kind) for kind in ("PNG", "JPEG"))
    members = {"cat/a.png": png, "cat/b.jpg": jpeg, "dog/c.png": png, "dog/c.txt": b"a note"}
    columns: Columns = {
        "image": [png, jpeg, png],
        "key": ["a", "b", "c"],
        "label": ["cat", "dog", "cat"],
    }
    wrapped: Columns = {
        "image": [{"bytes": png, "path": "a.png"}, {"bytes": jpeg, "path": "b.jpg"}]
    }
    loose = {"a.png": png, "b.jpg": jpeg}
    rows = b"uri,label,tags\na.png,cat,x y\nb.jpg,dog,\n"
    return [
        {"images.tar": tar_of(members)},
        {"images.tar": tar_of(members, tarfile.PAX_FORMAT)},
        {"images.parquet": parquet_of(columns)},
        {"images.parquet": parquet_of(wrapped)},
        {"list.csv": rows, **loose},
        {"list.txt": b"a.png\nb.jpg\n", **loose},
    ]


def tar_of(members: Files, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar file of these members."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def parquet_of(columns: Columns) -> bytes:
    """A Parquet file of these columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _weights() -> list[Files]:
    state = build(MODEL, len(CLASSES)).state_dict()
    contents = (state, {"state_dict": state}, {"model": state, "epoch": 3})
    files: list[Files] = [{"weights.safetensors": encode_tensors(state)}]
    for content in contents:
        for is_zip in (True, False):
            sink = io.BytesIO()
            torch.save(content, sink, _use_new_zipfile_serialization=is_zip)
            files.append({"weights.pth": sink.getvalue()})
    return files


def _model() -> Files:
    description = Description(MODEL, CLASSES, Inputs(size=8, resize=8))
    return {"weights.safetensors": save_weights(build(MODEL, len(CLASSES)), description)}
