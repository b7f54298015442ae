"""Lesson rows: what the images that are taken teach, and where each stands in the shuffled order.

In: rows of image, class and number of repeats, all of an image together. Out: `LessonRows`, without
the images themselves. The place of a lesson is decided by a hash of its image and class, so it
depends on nothing else.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.gather.options import GatherOptions
from tasks.topk import hash_ids

REPEAT_SALT = np.int64(0x5851_F42D_4C95_7F2D)  # any large odd number


@dataclass(frozen=True)
class LessonRows:
    """Lessons without their images, sorted by image_id.

    `order` is the hash by which they are shuffled, `labels` the classes that each of them teaches.
    """

    image_ids: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint64]
    labels: pa.ListArray

    def __len__(self) -> int:
        return len(self.image_ids)


def lesson_rows(taken: pa.Table, options: GatherOptions) -> LessonRows:
    """The lessons of a table of (image_id, label, repeats)."""
    ids, labels, repeats = _repeated(taken)
    order = np.lexsort((labels, repeats, ids))
    ids, labels, repeats = ids[order], labels[order], repeats[order]
    starts = np.arange(len(ids))
    if options.multi_label != "replicate":
        starts = np.flatnonzero(np.append(True, (np.diff(ids) != 0) | (np.diff(repeats) != 0)))
    ids, repeats, offsets = ids[starts], repeats[starts], np.append(starts, len(labels))
    if options.multi_label == "sample_one":
        counts = np.diff(offsets).astype(np.uint64)
        draws = hash_ids(ids + repeats * REPEAT_SALT, options.seed + 1) % counts
        labels = labels[starts + draws.astype(np.int64)]
        offsets = np.arange(len(ids) + 1)
    # Class and repeat are mixed in, so that the replicas of an image do not follow one another.
    salted = ids * np.int64(65_537) + labels[offsets[:-1]] + repeats * REPEAT_SALT
    groups = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(labels, pa.int32()))
    return LessonRows(ids, hash_ids(salted, options.seed), groups)


def unlabelled_rows(ids: npt.NDArray[np.int64], options: GatherOptions) -> LessonRows:
    """Lessons that teach no class, of these images, which are sorted."""
    offsets = pa.array(np.zeros(len(ids) + 1, np.int32))
    no_labels = pa.ListArray.from_arrays(offsets, pa.array([], pa.int32()))
    return LessonRows(ids, hash_ids(ids, options.seed), no_labels)


def _repeated(
    taken: pa.Table,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Images, classes and the number of the repeat, a row for each time that a pair is taken."""
    times = taken["repeats"].to_numpy()
    ids, labels = taken["image_id"].to_numpy(), taken["label"].to_numpy()
    repeats = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(ids, times), np.repeat(labels, times), repeats
