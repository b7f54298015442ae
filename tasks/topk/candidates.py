"""Candidates: the pairs (image, class) that may still be chosen, few of the many that there are.

In: parts of `scores`, and for each class a floor, the least value that can still be chosen. Out:
the pairs at or above the floors, 14 bytes each (22 with hashes), and counts over all that were
seen. Floors only rise: when K candidates of a class are known, nothing below the worst of them can
be chosen.

    pile = Pile(job, floors_C)
    for part in reader.parts(names): pile.add(part)
    found = pile.found()
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.duplicates.matching import Hashes
from tasks.topk.options import TopkOptions
from tasks.topk.order import Ids, Labels, Positions, Values, hash_ids, random_values, select_best
from tasks.topk.reader import Part

# Bins of the histogram of log-odds: a half each, the first and last one open.
HISTOGRAM_EDGES = np.arange(-24, 40.5, 0.5)
HISTOGRAM_BINS = len(HISTOGRAM_EDGES) - 1
PRUNE_PAIRS = 4_000_000  # pairs, 56 MB
MIN_PRUNE_PAIRS = 500_000  # pairs; before that it is not worth its time, however few are wanted
MAX_PIECES = 128  # each costs some time at every later step
PIECES_PER_JOIN = 16  # pieces that are joined at a time; joining many at once takes much memory
DROP_REASONS = ("near_duplicates", "labelled", "test")  # why one is left out: as a copy of what
NO_FLOOR = np.float32(-np.inf)  # a floor that everything is above


@dataclass(frozen=True)
class RoundJob:
    """What every task of a reduction knows.

    `classes` are those that are chosen for, of `all_classes`; in what is found, the first of them
    is 0. `wanted_G` is how many are kept of each group, which is a class, or all classes together.
    The histogram is made of one image in `one_in`.
    """

    options: TopkOptions
    classes: range
    all_classes: int
    quota_G: npt.NDArray[np.int64]
    histogram_stride: int

    @property
    def num_classes(self) -> int:
        """How many classes are chosen for."""
        return len(self.classes)

    @property
    def class_filter(self) -> range | None:
        """The classes, unless they are all."""
        return self.classes if self.num_classes < self.all_classes else None

    @property
    def total_quota(self) -> int:
        """How many are wanted of all groups together."""
        return int(self.quota_G.sum())

    def values(self, some: "Candidates") -> Values:
        """What the candidates compete by; greater is better."""
        if self.options.random:
            return random_values(some.image_ids_N, self.options.seed)
        return some.log_odds_N

    def groups(self, some: "Candidates") -> Iterator[tuple[slice, int]]:
        """The candidates that compete with one another, and how many are wanted of them."""
        if self.options.across_classes:
            yield slice(0, len(some)), self.total_quota
            return
        class_offsets = some.class_offsets(self.num_classes)
        for label in np.flatnonzero(np.diff(class_offsets)).tolist():
            yield slice(class_offsets[label], class_offsets[label + 1]), int(self.quota_G[label])


@dataclass(frozen=True)
class Candidates:
    """Pairs, sorted by label."""

    labels_N: Labels
    log_odds_N: Values
    image_ids_N: Ids
    phashes_N: Hashes | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: Positions) -> "Candidates":
        """Some of them."""
        return self._each(lambda column: column.take(rows))

    def between(self, first: int, last: int) -> "Candidates":
        """Some that stand together, without a copy."""
        return self._each(lambda column: column[first:last])

    def _each(self, change: Callable[[Any], Any]) -> "Candidates":
        return Candidates(
            change(self.labels_N),
            change(self.log_odds_N),
            change(self.image_ids_N),
            None if self.phashes_N is None else change(self.phashes_N),
        )

    def class_offsets(self, num_classes: int) -> Positions:
        """Where each class begins, and the end: shape (C + 1,)."""
        return class_offsets(self.labels_N, range(num_classes))


@dataclass(frozen=True)
class ScanCounts:
    """Counts over all pairs that were looked at, whatever became of them.

    `spans_S3` has of each part the place in the manifest, and its lowest and highest image_id.
    `dropped_CR` are copies, by the reasons of `guard`.
    """

    candidates_C: npt.NDArray[np.int64]
    histogram_CB: npt.NDArray[np.int64]
    not_finite: Ids
    spans_S3: npt.NDArray[np.int64]
    dropped_CR: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartialResult:
    """What came out of some parts: pieces of candidates, and counts."""

    pieces: tuple[Candidates, ...]
    counts: ScanCounts


def class_offsets(labels_N: Labels, classes: range) -> Positions:
    """Where each of these classes begins in sorted labels, and where the last one ends."""
    # Keys of another type would have all the labels converted.
    keys = np.arange(classes.start, classes.stop + 1, dtype=np.uint16)
    return np.searchsorted(labels_N, keys)


def no_candidates() -> Candidates:
    """No pairs."""
    return Candidates(np.zeros(0, np.uint16), np.zeros(0, np.float32), np.zeros(0, np.int64))


def join(several: Sequence[Candidates]) -> Candidates:
    """All of them, sorted by label."""
    labels_N = np.concatenate([one.labels_N for one in several])
    order = np.argsort(labels_N, kind="stable")  # of 16 bits, this is a radix sort
    phashes = [one.phashes_N for one in several if one.phashes_N is not None]
    return Candidates(
        labels_N.take(order),
        np.concatenate([one.log_odds_N for one in several]).take(order),
        np.concatenate([one.image_ids_N for one in several]).take(order),
        np.concatenate(phashes).take(order) if phashes else None,
    )


def _few(pieces: Sequence[Candidates]) -> tuple[Candidates, ...]:
    """The same, in one piece if there are many."""
    return (join(pieces),) if len(pieces) > MAX_PIECES else tuple(pieces)


def combine(job: RoundJob, several: Sequence[PartialResult]) -> PartialResult:
    """What came out of several groups of parts; no more than is wanted of each group."""
    pieces = _few([piece for one in several for piece in one.pieces if len(piece)])
    if len(pieces) > 1 and sum(map(len, pieces)) > max(PRUNE_PAIRS, 1.5 * job.total_quota):
        pieces = (prune(job, join(pieces)),)
    counts = [one.counts for one in several]
    return PartialResult(
        pieces,
        ScanCounts(
            np.sum([one.candidates_C for one in counts], axis=0),
            np.sum([one.histogram_CB for one in counts], axis=0),
            np.concatenate([one.not_finite for one in counts]),
            np.concatenate([one.spans_S3 for one in counts]),
            np.sum([one.dropped_CR for one in counts], axis=0),
        ),
    )


def prune(job: RoundJob, some: Candidates) -> Candidates:
    """The best of each group."""
    values_N = job.values(some)
    kept = [
        np.sort(select_best(values_N[group], some.labels_N[group], some.image_ids_N[group], wanted))
        + group.start
        for group, wanted in job.groups(some)
    ]
    return some.take(np.concatenate(kept)) if kept else some


def floors(job: RoundJob, some: Candidates) -> Values:
    """What the candidates of each class have to reach, since so many others do, shape (C,)."""
    floors_C = np.full(job.num_classes, NO_FLOOR)
    values_N = job.values(some)
    for group, wanted in job.groups(some):
        place = group.stop - group.start - wanted
        if place >= 0:
            labels = slice(None) if job.options.across_classes else some.labels_N[group.start]
            floors_C[labels] = np.partition(values_N[group], place)[place]
    return floors_C


class CandidateBuffer:
    """Candidates of one part after the other, of which only those stay that can be chosen."""

    def __init__(self, job: RoundJob, floors_C: Values) -> None:
        self._job = job
        self._floors_C = floors_C
        self._pieces: list[Candidates] = []
        self._fresh: list[Candidates] = []
        self._pairs = 0
        self._prune_at = self._soonest = min(PRUNE_PAIRS, max(MIN_PRUNE_PAIRS, 2 * job.total_quota))
        self._candidates_C = np.zeros(job.num_classes, np.int64)
        self._histogram_CB = np.zeros((job.num_classes, HISTOGRAM_BINS), np.int64)
        self._not_finite = [np.zeros(0, np.int64)]
        self._spans: list[tuple[int, int, int]] = []

    def add(self, part: Part) -> None:
        """Look at a part."""
        if not len(part.image_ids_N):
            return
        job = self._job
        self._spans.append((part.number, part.image_ids_N.min(), part.image_ids_N.max()))
        bad_N = part.not_finite
        self._not_finite.append(part.image_ids_N[bad_N])
        chance_N = hash_ids(part.image_ids_N, 0) % np.uint64(job.histogram_stride)
        sample = np.flatnonzero(chance_N == 0)
        drawn_N = random_values(part.image_ids_N, job.options.seed) if job.options.random else None
        phashes_N = part.phashes
        pieces = []
        for labels_M, log_odds_M, rows in part.pairs(
            bad_N, job.options.min_log_odds, job.class_filter
        ):
            cells_M = labels_M.astype(np.intp)
            self._candidates_C += np.bincount(cells_M, minlength=job.num_classes)
            mine = sample if isinstance(rows, slice) else np.flatnonzero(np.isin(rows, sample))
            self._add_to_histogram(cells_M[mine], log_odds_M[mine])
            values_M = log_odds_M if drawn_N is None else drawn_N[rows]
            hits = np.flatnonzero(values_M >= self._floors_C[cells_M])
            images = hits if isinstance(rows, slice) else rows[hits]
            phashes = None if phashes_N is None else phashes_N[images]
            ids = part.image_ids_N[images]
            pieces.append(Candidates(labels_M[hits], log_odds_M[hits], ids, phashes))
        self._fresh.append(join(pieces))
        self._pairs += len(self._fresh[-1])
        if len(self._fresh) == PIECES_PER_JOIN:
            self._pieces.append(join(self._fresh))
            self._fresh = []
        if self._pairs > self._prune_at:
            self._prune()

    def found(self) -> PartialResult:
        """What the parts have brought."""
        counts = ScanCounts(
            self._candidates_C,
            self._histogram_CB,
            np.concatenate(self._not_finite),
            np.array(self._spans, np.int64).reshape(-1, 3),
            np.zeros((self._job.num_classes, len(DROP_REASONS)), np.int64),
        )
        return PartialResult(_few([*self._pieces, *self._fresh]), counts)

    def _add_to_histogram(self, cells_S: Positions, log_odds_S: Values) -> None:
        """Add to the histogram."""
        # The bins are a half wide; what is beyond the first or the last one counts there.
        bins = np.clip(log_odds_S * 2 - 2 * HISTOGRAM_EDGES[0], 0, HISTOGRAM_BINS - 1).astype(
            np.intp
        )
        cells = np.bincount(cells_S * HISTOGRAM_BINS + bins, minlength=self._histogram_CB.size)
        self._histogram_CB += cells.reshape(-1, HISTOGRAM_BINS)

    def _prune(self) -> None:
        kept = prune(self._job, join([*self._pieces, *self._fresh]))
        self._floors_C = np.fmax(self._floors_C, floors(self._job, kept))
        self._pieces, self._fresh, self._pairs = [kept], [], len(kept)
        # Where K times the classes is more than that, pruning again at once would be in vain.
        self._prune_at = max(self._soonest, 2 * len(kept))
