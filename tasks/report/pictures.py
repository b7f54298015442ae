"""Pictures: images as thumbnails that stand in the page itself, each with its file's name.

In: an `images` output, and which images to show. Out: for each class of a choice a few strips: the
best-ranked images, and those around ranks K/4, K/2 and K.

    pictures = strips(images, chosen, {3: "cat"}, count=12)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.contract import Output
from tasks.images import Pixels, Thumbnail, thumbnail, thumbnail_of
from tasks.report.format import probability
from tasks.shard import read_keys, read_many


@dataclass(frozen=True)
class Picture:
    """A thumbnail, the key of its image, and what is to be said of it."""

    thumbnail: Thumbnail
    key: str
    description: str


@dataclass(frozen=True)
class Strip:
    """Pictures of successive ranks; `first` and `last` count from 1."""

    first: int
    last: int
    pictures: tuple[Picture, ...]


def picture_of(pixels_HWC: Pixels, description: str) -> Picture:
    """A picture of pixels that come from no file; its size stands in the place of a name."""
    size = "{1} x {0} pixels".format(*pixels_HWC.shape)
    return Picture(thumbnail_of(pixels_HWC), size, description)


def strips(
    images: Output, chosen: pa.Table, names: Mapping[int, str], count: int
) -> dict[int, list[Strip]]:
    """The strips of each of these classes, of at most `count` pictures each."""
    labels = chosen["label"].to_numpy()
    windows: dict[int, list[range]] = {}
    for label in names:
        first, last = np.searchsorted(labels, [label, label + 1]).tolist()
        windows[label] = [
            range(first + window.start, first + window.stop)
            for window in ranks(last - first, count)
        ]
    rows = [row for class_windows in windows.values() for window in class_windows for row in window]
    shown = chosen.take(pa.array(rows, pa.int64())).to_pylist()
    descriptions = [
        f"{names[row['label']]}, rank {row['rank'] + 1:,}, p {probability(row['log_odds'])}"
        for row in shown
    ]
    ids = np.array([row["image_id"] for row in shown], np.int64)
    pictures = dict(zip(rows, pictures_of(images, ids, descriptions), strict=True))
    return {
        label: [_strip(chosen, window, pictures) for window in class_windows]
        for label, class_windows in windows.items()
    }


def pictures_of(
    images: Output, ids: npt.NDArray[np.int64], descriptions: list[str]
) -> list[Picture]:
    """The pictures of these ids, in their order."""
    # What is kept of an image is its thumbnail.
    thumbnails = {image_id: thumbnail(data) for image_id, data in read_many(images, ids)}
    keys = read_keys(images, ids)
    return [
        Picture(thumbnails[image_id], key, description)
        for image_id, key, description in zip(ids.tolist(), keys, descriptions, strict=True)
    ]


def ranks(kept: int, count: int) -> list[range]:
    """Ranks to show, from 0: the best, around a quarter and a half, and the last; none twice."""
    starts = (0, kept // 4 - count // 2, kept // 2 - count // 2, kept - count)
    windows: list[range] = []
    end = 0
    for start in starts:
        first, end_before = max(start, end), end
        end = max(end_before, min(start + count, kept))
        if first < end:
            windows.append(range(first, end))
    return windows


def _strip(chosen: pa.Table, window: range, pictures: Mapping[int, Picture]) -> Strip:
    ranks_shown = chosen["rank"].slice(window.start, len(window)).to_pylist()
    shown = tuple(pictures[place] for place in window)
    return Strip(ranks_shown[0] + 1, ranks_shown[-1] + 1, shown)
