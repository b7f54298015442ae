"""Plan: which images become lessons, what they teach, and where each stands in the shuffled order.

In: the `chosen` table, that of tags, or images. Out: `Lessons`, without the images themselves. The
place of a lesson is decided by a hash of its image and class, so it depends on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from tasks import contract, tables, tags
from tasks.contract import Output
from tasks.gather.options import GatherOptions
from tasks.gather.subset import Share, read_subset
from tasks.tags import read_tag_labels
from tasks.topk import hash_ids, read_chosen

MAX_LABELS = 1 << 31
REPEAT_SALT = np.int64(0x5851_F42D_4C95_7F2D)  # any large odd number


@dataclass(frozen=True)
class Lessons:
    """Lessons without their images, sorted by image_id.

    `order` is the hash by which they are shuffled, `labels` the classes that each of them teaches.
    """

    image_ids: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint64]
    labels: pa.ListArray

    def __len__(self) -> int:
        return len(self.image_ids)


def plan_lessons(taken: pa.Table, options: GatherOptions) -> Lessons:
    """The lessons of a table of (image_id, label, repeats)."""
    ids, labels, repeats = _repeated(taken)
    if len(labels) >= MAX_LABELS:
        raise ProtegeError(
            f"{len(labels):,} pairs of image and class are more than one training set can have "
            f"({MAX_LABELS:,}): choose fewer images, or repeat them less often"
        )
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
    return Lessons(ids, hash_ids(salted, options.seed), groups)


def _repeated(
    taken: pa.Table,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Images, classes and the number of the repeat, a row for each time that a pair is taken."""
    times = taken["repeats"].to_numpy()
    ids, labels = taken["image_id"].to_numpy(), taken["label"].to_numpy()
    repeats = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(ids, times), np.repeat(labels, times), repeats


def read_taken(chosen: Output) -> pa.Table:
    """The pairs of image and class of a choice: one by scores, or one by tags."""
    return read_tag_labels(chosen) if chosen.stage == tags.STAGE else read_chosen(chosen)


def read_labels(
    images: Output, classes: Sequence[str], options: GatherOptions, share: Share | None = None
) -> pa.Table:
    """The labelled images that are taken: the columns of `plan_lessons`.

    Raises ProtegeError for an image without a class, or with one that is none of `classes`.
    """
    table = read_subset(images, options, share)
    class_indices = {name: index for index, name in enumerate(classes)}
    names = table["label"].unique().to_pylist()
    if None in names:
        raise ProtegeError(
            f"{images.uri} has an image without a class: put every image into a folder named "
            "after its class, or give a list with a column 'label'"
        )
    unknown = sorted(set(names) - set(class_indices))
    if unknown:
        raise ProtegeError(f"{images.uri}: {unknown[0]!r} is none of the classes")
    labels = [class_indices[name] for name in table["label"].to_pylist()]
    return pa.table(
        {
            "image_id": table["image_id"],
            "label": pa.array(labels, pa.int32()),
            "repeats": pa.array(np.ones(len(labels), np.int64)),
        }
    )


def plan_unlabelled(images: Output, options: GatherOptions) -> Lessons:
    """All images of a source, as lessons that teach no class."""
    ids = contract.read_rows(images, tables.IMAGES, ["image_id"])["image_id"].to_numpy()
    offsets = pa.array(np.zeros(len(ids) + 1, np.int32))
    no_labels = pa.ListArray.from_arrays(offsets, pa.array([], pa.int32()))
    return Lessons(ids, hash_ids(ids, options.seed), no_labels)
