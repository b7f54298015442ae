"""Pictures: thumbnails of chosen images, as data URIs that stand in the page itself.

In: the chosen images and the classes to show. Out: for each class a few strips: the best-ranked
images, and those around ranks K/4, K/2 and K.

    pictures = strips(images, chosen, {3: "cat"}, count=12)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.contract import Output
from tasks.images import thumbnail
from tasks.report.format import probability
from tasks.shard import read_many


@dataclass(frozen=True)
class Picture:
    """A thumbnail: its data URI, its own side in pixels, and its description in words."""

    uri: str
    side: int
    description: str


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
            range(first + window.start, first + window.stop)
            for window in ranks(last - first, count)
        ]
    rows = [row for class_windows in windows.values() for window in class_windows for row in window]
    shown = chosen.take(pa.array(rows, pa.int64()))
    ids = shown["image_id"].to_numpy()
    by_id = {image_id: thumbnail(data) for image_id, data in read_many(images, ids)}
    thumbnails = {row: by_id[image_id] for row, image_id in zip(rows, ids.tolist(), strict=True)}
    return {
        label: [_strip(chosen, names[label], window, thumbnails) for window in class_windows]
        for label, class_windows in windows.items()
    }


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


def _strip(
    chosen: pa.Table, name: str, window: range, thumbnails: Mapping[int, tuple[str, int]]
) -> Strip:
    rows = chosen.slice(window.start, len(window)).to_pylist()
    pictures = []
    for place, row in zip(window, rows, strict=True):
        uri, side = thumbnails[place]
        description = f"{name}, rank {row['rank'] + 1:,}, p {probability(row['log_odds'])}"
        pictures.append(Picture(uri, side, description))
    return Strip(rows[0]["rank"] + 1, rows[-1]["rank"] + 1, tuple(pictures))
