"""Vocabulary: the classes that tags teach, and how often an image of each is taken.

In: counts of images by tag and class. Out: a `Vocabulary` and its two tables.

A class is taken by the square root of its size: with f images of it, and F of the largest class,
an image of it is taken sqrt(F / f) times, and one of several classes as often as its rarest one
("Exploring the limits of weakly supervised pretraining", Mahajan et al. 2018, section 2.2, with the
size of the largest class as its threshold, so that no image is left out).
"""

import itertools
from collections.abc import Mapping, Sequence
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


def meanings(
    counts: TagCounts, mapping: TagMapping, vocabulary: Vocabulary
) -> dict[str, list[str]]:
    """The classes that each tag teaches, the tags with the most images first; of most, none."""
    classes = set(vocabulary.classes)
    ordered = sorted(counts.tags, key=lambda tag: (-counts.tags[tag], tag))
    return {tag: sort_classes(mapping.classes_of([tag]) & classes) for tag in ordered}


def tags_table(counts: TagCounts, taught: Mapping[str, Sequence[str]]) -> pa.Table:
    """The tags with the most images, and what each of them teaches."""
    rows = [
        {"tag": tag, "images": counts.tags[tag], "classes": classes}
        for tag, classes in itertools.islice(taught.items(), LISTED_TAGS)
    ]
    return pa.Table.from_pylist(rows, tables.TAGS)


def classes_table(vocabulary: Vocabulary) -> pa.Table:
    """A row for each class."""
    columns = zip(vocabulary.classes, vocabulary.images_C, vocabulary.repeats_C, strict=True)
    rows = [
        {"label": label, "name": name, "images": images, "repeats": repeats}
        for label, (name, images, repeats) in enumerate(columns)
    ]
    return pa.Table.from_pylist(rows, tables.TAG_CLASSES)
