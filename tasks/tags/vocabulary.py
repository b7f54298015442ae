"""Vocabulary: the classes that tags teach, and how often an image of each is taken.

In: counts of images by tag and class. Out: a `Vocabulary` and its two tables.

A class is taken by the square root of its size: with f images of it, and F of the largest class,
an image of it is taken sqrt(F / f) times, and one of several classes as often as its rarest one
("Exploring the limits of weakly supervised pretraining", Mahajan et al. 2018, section 2.2, with the
size of the largest class as its threshold, so that no image is left out).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks import tables
from tasks.shard import sort_classes
from tasks.tags.counts import TagCounts
from tasks.tags.mapping import TagMapping
from tasks.tags.options import TagOptions
from tasks.topk import hash_ids

LISTED_TAGS = 100_000


@dataclass(frozen=True)
class Vocabulary:
    """The classes in their order, their images, and how often an image of each is taken."""

    classes: tuple[str, ...]
    images_C: tuple[int, ...]
    repeats_C: tuple[float, ...]

    def repeats_of(
        self, ids_N: npt.NDArray[np.int64], labels_N: Sequence[Sequence[int]], seed: int
    ) -> npt.NDArray[np.int32]:
        """How often each of these images is taken: as often as its rarest class says.

        A fraction is that share of the images which their ids and the seed decide.
        """
        wanted_N = np.array([max(self.repeats_C[label] for label in labels) for labels in labels_N])
        draws_N = hash_ids(ids_N, seed) / 2.0**64
        times_N: npt.NDArray[np.int32] = np.floor(wanted_N + draws_N).astype(np.int32)
        return times_N


def make_vocabulary(counts: TagCounts, options: TagOptions) -> Vocabulary:
    """The largest classes, those with at least `min_images` images; among equal ones, by name."""
    large = [(-images, name) for name, images in counts.classes.items() if images]
    kept = [name for less, name in sorted(large) if -less >= options.min_images]
    classes = sort_classes(kept[: options.max_classes])
    images_C = np.array([counts.classes[name] for name in classes], np.int64)
    repeats_C = np.ones(len(classes))
    if options.resampling == "square_root" and classes:
        repeats_C = np.minimum(np.sqrt(images_C.max() / images_C), options.max_repeats)
    return Vocabulary(tuple(classes), tuple(images_C.tolist()), tuple(repeats_C.tolist()))


def tags_table(counts: TagCounts, mapping: TagMapping, vocabulary: Vocabulary) -> pa.Table:
    """The tags with the most images, and what each of them teaches; nothing, for most."""
    classes = set(vocabulary.classes)
    listed = sorted(counts.tags.items(), key=lambda item: (-item[1], item[0]))[:LISTED_TAGS]
    taught = [sort_classes(mapping.classes_of([tag]) & classes) for tag, _ in listed]
    columns = [[tag for tag, _ in listed], [images for _, images in listed], taught]
    arrays = zip(columns, tables.TAGS.types, strict=True)
    return pa.Table.from_arrays(
        [pa.array(column, kind) for column, kind in arrays], schema=tables.TAGS
    )


def classes_table(vocabulary: Vocabulary) -> pa.Table:
    """A row for each class."""
    labels = range(len(vocabulary.classes))
    columns = [labels, vocabulary.classes, vocabulary.images_C, vocabulary.repeats_C]
    arrays = zip(columns, tables.TAG_CLASSES.types, strict=True)
    return pa.Table.from_arrays(
        [pa.array(list(column), kind) for column, kind in arrays], schema=tables.TAG_CLASSES
    )


def unmapped(counts: TagCounts, mapping: TagMapping, vocabulary: Vocabulary) -> list[str]:
    """The tags that teach no class, the most frequent first."""
    classes = set(vocabulary.classes)
    lost = [tag for tag in counts.tags if not mapping.classes_of([tag]) & classes]
    return sorted(lost, key=lambda tag: (-counts.tags[tag], tag))
