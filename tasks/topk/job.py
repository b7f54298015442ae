"""Jobs: what a reduction works on, and what every task of one of its rounds has to know.

In: the scores, the options, and signatures of the images that exclude others. Out: a `RoundJob` for
each round. There is one round, unless K times the number of classes is more than the worker that
takes the last step can hold in memory; then every round takes some of the classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.contract import Output
from tasks.topk.options import TopkOptions
from tasks.topk.reader import Reader

HISTOGRAM_SAMPLE_IMAGES = 1_000_000  # of more images, the histogram counts one in so many
# 2 GB on the worker that takes the last step, and 4 GB where near-duplicates are dropped. This and
# class_ranges.ROWS_PER_RANGE decide where parts of `chosen` end: raise topk's VERSION with them.
PAIRS_PER_ROUND = 32_000_000


@dataclass(frozen=True)
class RoundJob:
    """The classes of one round, and how many candidates are kept of each group.

    A group is the set of candidates that compete with one another: those of a class, or all.
    `quota_G` has the number that is kept of each group. `classes` are some of the `all_classes`
    labels; in the candidates of this round, the first of them has the label 0. The histogram counts
    one image in `histogram_stride`.
    """

    options: TopkOptions
    classes: range
    all_classes: int
    quota_G: npt.NDArray[np.int64]
    histogram_stride: int

    @property
    def num_classes(self) -> int:
        """Number of classes of this round."""
        return len(self.classes)

    @property
    def class_filter(self) -> range | None:
        """The classes, or None if they are all."""
        return self.classes if self.num_classes < self.all_classes else None

    @property
    def total_quota(self) -> int:
        """Sum of the quotas of all groups."""
        return int(self.quota_G.sum())


@dataclass(frozen=True)
class ReductionJob:
    """What is reduced, and where the result is written.

    `parts` are the names and numbers of rows of the parts of the scores. `exclude` are outputs of
    `signature` by role; near-duplicates of their images are not chosen.
    """

    uri: str
    reader: Reader
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]
    exclude: Mapping[str, Output]

    @property
    def inputs(self) -> dict[str, Output]:
        """All outputs that are read, by role."""
        return {"scores": self.reader.scores, **self.exclude}

    @property
    def options(self) -> TopkOptions:
        """The options of the stage."""
        return self.reader.options

    @property
    def rows(self) -> int:
        """Number of images that have scores."""
        return self.reader.scores.kept

    @property
    def histogram_stride(self) -> int:
        """The histogram counts one image in so many."""
        return -(-self.rows // HISTOGRAM_SAMPLE_IMAGES) or 1

    def round_jobs(self) -> Iterator[RoundJob]:
        """The jobs of all rounds, in the order of the classes."""
        count, options = len(self.classes), self.options
        if options.across_classes:
            quota_G = np.array([options.k * count])
            yield RoundJob(options, range(count), count, quota_G, self.histogram_stride)
            return
        classes_per_round = max(1, PAIRS_PER_ROUND // options.k)
        for first in range(0, count, classes_per_round):
            classes = range(first, min(first + classes_per_round, count))
            quota_G = np.full(len(classes), options.k)
            yield RoundJob(options, classes, count, quota_G, self.histogram_stride)
