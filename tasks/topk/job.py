"""Jobs: what a reduction works on, and what every task of one of its rounds has to know.

In: the scores, the options, and signatures of the images that exclude others. Out: a `RoundJob` for
each round. There is one round, unless K times the number of classes is more than the worker that
takes the last step can hold in memory; then every round takes some of the classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.contract import Output
from tasks.topk.limits import DEFAULT_LIMITS, Limits
from tasks.topk.modes import ModeRules
from tasks.topk.options import TopkOptions
from tasks.topk.reader import Reader


@dataclass(frozen=True)
class RoundJob:
    """The classes of one round, and how many candidates are kept of each group.

    A group is the set of candidates that compete with one another: those of a class, or all.
    `quota_G` has the number that is kept of each group. `classes` are some of the `all_classes`
    labels; in the candidates of this round, the first of them has the label 0. The histogram counts
    one image in `histogram_stride`.
    """

    options: TopkOptions
    limits: Limits
    classes: range
    all_classes: int
    quota_G: npt.NDArray[np.int64]
    histogram_stride: int

    @property
    def rules(self) -> ModeRules:
        """What the mode does."""
        return self.options.rules

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
    `signature` by role; near-duplicates of their images are not chosen. `known_scores` are those of
    `score` of the same images, whose crops are not chosen.
    """

    uri: str
    reader: Reader
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]
    exclude: Mapping[str, Output]
    limits: Limits = DEFAULT_LIMITS
    known_scores: Mapping[str, Output] = field(default_factory=dict)

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
        return -(-self.rows // self.limits.histogram_sample_images) or 1

    def round_jobs(self) -> Iterator[RoundJob]:
        """The jobs of all rounds, in the order of the classes."""
        count, k = len(self.classes), self.options.k
        if self.options.rules.across_classes:
            yield self._round_job(range(count), np.array([k * count]))
            return
        classes_per_round = max(1, self.limits.pairs_per_round // k)
        for first in range(0, count, classes_per_round):
            classes = range(first, min(first + classes_per_round, count))
            yield self._round_job(classes, np.full(len(classes), k))

    def _round_job(self, classes: range, quota_G: npt.NDArray[np.int64]) -> RoundJob:
        return RoundJob(
            self.options, self.limits, classes, len(self.classes), quota_G, self.histogram_stride
        )
