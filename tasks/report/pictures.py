"""Pictures: thumbnails of chosen images, as data URIs that stand in the page itself.

In: the chosen images and the classes to show. Out: for each class a few strips: the best-ranked
images, and those around ranks K/4, K/2 and K.

    pictures = strips(images, chosen, {3: "cat"}, count=12)
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from tasks.contract import Output
from tasks.images import Limits, Pixels, decode, square
from tasks.report.format import probability
from tasks.shard import read_many

SIDE = 72  # pixels; the page shows them at no more than this
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A thumbnail: its data URI, its own side in pixels, and its description in words."""

    uri: str
    side: int
    words: str


@dataclass(frozen=True)
class Strip:
    """Pictures of successive ranks; `first` and `last` count from 1."""

    first: int
    last: int
    pictures: tuple[Picture, ...]


def strips(
    images: Output, chosen: pa.Table, names: Mapping[int, str], count: int
) -> dict[int, list[Strip]]:
    """The strips of each of these classes, of at most `count` pictures each."""
    labels = chosen["label"].to_numpy()
    windows: dict[int, list[range]] = {}
    for label in names:
        first, last = np.searchsorted(labels, [label, label + 1]).tolist()
        windows[label] = [
            range(first + one.start, first + one.stop) for one in ranks(last - first, count)
        ]
    rows = [row for several in windows.values() for one in several for row in one]
    shown = chosen.take(pa.array(rows, pa.int64()))
    encoded = read_many(images, shown["image_id"].to_numpy())
    uris = dict(zip(rows, map(_thumbnail, encoded), strict=True))
    return {
        label: [_strip(chosen, names[label], one, uris) for one in several]
        for label, several in windows.items()
    }


def ranks(kept: int, count: int) -> list[range]:
    """Ranks to show, from 0: the best, around a quarter and a half, and the last; none twice."""
    starts = (0, kept // 4 - count // 2, kept // 2 - count // 2, kept - count)
    found: list[range] = []
    end = 0
    for start in starts:
        first, end_before = max(start, end), end
        end = max(end_before, min(start + count, kept))
        if first < end:
            found.append(range(first, end))
    return found


def _strip(chosen: pa.Table, name: str, rows: range, uris: Mapping[int, tuple[str, int]]) -> Strip:
    mine = chosen.slice(rows.start, len(rows)).to_pylist()
    pictures = []
    for place, row in zip(rows, mine, strict=True):
        uri, side = uris[place]
        words = f"{name}, rank {row['rank'] + 1:,}, p {probability(row['log_odds'])}"
        pictures.append(Picture(uri, side, words))
    return Strip(mine[0]["rank"] + 1, mine[-1]["rank"] + 1, tuple(pictures))


def _thumbnail(data: bytes) -> tuple[str, int]:
    """(data URI, side in pixels): the central square, in whichever format is smaller."""
    pixels_HWC = decode(data, Limits())
    side = min(SIDE, *pixels_HWC.shape[:2])
    image = Image.fromarray(_flattened(square(pixels_HWC, side, side)))
    forms = []
    for kind, settings in (("png", {"optimize": True}), ("jpeg", {"quality": JPEG_QUALITY})):
        sink = io.BytesIO()
        image.save(sink, format=kind, **settings)
        forms.append((len(sink.getvalue()), kind, sink.getvalue()))
    _, kind, small = min(forms)
    return f"data:image/{kind};base64,{base64.b64encode(small).decode()}", side


def _flattened(pixels_HWC: Pixels) -> Pixels:
    """One channel where the three are equal: a third of the bytes."""
    first_HW1 = pixels_HWC[:, :, :1]
    return pixels_HWC[:, :, 0] if (pixels_HWC == first_HW1).all() else pixels_HWC
