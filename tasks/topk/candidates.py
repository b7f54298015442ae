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
from tasks.topk.order import Ids, Labels, Positions, Values, best, draws, hash_ids
from tasks.topk.reader import Part

# Bins of the histogram of log-odds: a half each, the first and last one open.
HISTOGRAM_EDGES = np.arange(-24, 40.5, 0.5)
BINS = len(HISTOGRAM_EDGES) - 1
PRUNE_AT = 4_000_000  # pairs, 56 MB
PRUNE_FROM = 500_000  # pairs; before that it is not worth its time, however few are wanted
MOST_PIECES = 128  # each costs some time at every later step
FRESH = 16  # pieces that are joined at a time; joining many at once takes much memory
REASONS = ("near_duplicates", "labelled", "test")  # why one is left out: as a copy of what
NONE = np.float32(-np.inf)  # a floor that everything is above

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """What every task of a reduction knows.

    `classes` are those that are chosen for, of `all_classes`; in what is found, the first of them
    is 0. `wanted_G` is how many are kept of each group, which is a class, or all classes together.
    The histogram is made of one image in `one_in`.
    """

    options: TopkOptions
    classes: range
    all_classes: int
    wanted_G: Counts
    one_in: int

    @property
    def num_classes(self) -> int:
        """How many classes are chosen for."""
        return len(self.classes)

    @property
    def some(self) -> range | None:
        """The classes, unless they are all."""
        return self.classes if self.num_classes < self.all_classes else None

    @property
    def most(self) -> int:
        """How many are wanted of all groups together."""
        return int(self.wanted_G.sum())

    def values(self, some: "Candidates") -> Values:
        """What the candidates compete by; greater is better."""
        if self.options.random:
            return draws(some.image_ids_N, self.options.seed)
        return some.log_odds_N

    def groups(self, some: "Candidates") -> Iterator[tuple[slice, int]]:
        """The candidates that compete with one another, and how many are wanted of them."""
        if self.options.together:
            yield slice(0, len(some)), self.most
            return
        bounds = some.bounds(self.num_classes)
        for label in np.flatnonzero(np.diff(bounds)).tolist():
            yield slice(bounds[label], bounds[label + 1]), int(self.wanted_G[label])


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

    def bounds(self, num_classes: int) -> Positions:
        """Where each class begins, and the end: shape (C + 1,)."""
        return places_of(self.labels_N, range(num_classes))


@dataclass(frozen=True)
class Seen:
    """Counts over all pairs that were looked at, whatever became of them.

    `spans_S3` has of each part the place in the manifest, and its lowest and highest image_id.
    `dropped_CR` are copies, by the reasons of `guard`.
    """

    candidates_C: Counts
    histogram_CB: Counts
    not_finite: Ids
    spans_S3: npt.NDArray[np.int64]
    dropped_CR: Counts


@dataclass(frozen=True)
class Found:
    """What came out of some parts: pieces of candidates, and counts."""

    pieces: tuple[Candidates, ...]
    seen: Seen


def places_of(labels_N: Labels, classes: range) -> Positions:
    """Where each of these classes begins in sorted labels, and where the last one ends."""
    # Keys of another type would have all the labels converted.
    keys = np.arange(classes.start, classes.stop + 1, dtype=np.uint16)
    return np.searchsorted(labels_N, keys)


def nothing() -> Candidates:
    """No pairs."""
    return Candidates(np.zeros(0, np.uint16), np.zeros(0, np.float32), np.zeros(0, np.int64))


def joined(several: Sequence[Candidates]) -> Candidates:
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
    return (joined(pieces),) if len(pieces) > MOST_PIECES else tuple(pieces)


def combine(job: Job, several: Sequence[Found]) -> Found:
    """What came out of several groups of parts; no more than is wanted of each group."""
    pieces = _few([piece for one in several for piece in one.pieces if len(piece)])
    if len(pieces) > 1 and sum(map(len, pieces)) > max(PRUNE_AT, 1.5 * job.most):
        pieces = (prune(job, joined(pieces)),)
    seen = [one.seen for one in several]
    return Found(
        pieces,
        Seen(
            np.sum([one.candidates_C for one in seen], axis=0),
            np.sum([one.histogram_CB for one in seen], axis=0),
            np.concatenate([one.not_finite for one in seen]),
            np.concatenate([one.spans_S3 for one in seen]),
            np.sum([one.dropped_CR for one in seen], axis=0),
        ),
    )


def prune(job: Job, some: Candidates) -> Candidates:
    """The best of each group."""
    values_N = job.values(some)
    kept = [
        np.sort(best(values_N[group], some.labels_N[group], some.image_ids_N[group], wanted))
        + group.start
        for group, wanted in job.groups(some)
    ]
    return some.take(np.concatenate(kept)) if kept else some


def floors(job: Job, some: Candidates) -> Values:
    """What the candidates of each class have to reach, since so many others do, shape (C,)."""
    floors_C = np.full(job.num_classes, NONE)
    values_N = job.values(some)
    for group, wanted in job.groups(some):
        place = group.stop - group.start - wanted
        if place >= 0:
            labels = slice(None) if job.options.together else some.labels_N[group.start]
            floors_C[labels] = np.partition(values_N[group], place)[place]
    return floors_C


class Pile:
    """Candidates of one part after the other, of which only those stay that can be chosen."""

    def __init__(self, job: Job, floors_C: Values) -> None:
        self._job = job
        self._floors_C = floors_C
        self._pieces: list[Candidates] = []
        self._fresh: list[Candidates] = []
        self._pairs = 0
        self._prune_at = self._soonest = min(PRUNE_AT, max(PRUNE_FROM, 2 * job.most))
        self._candidates_C = np.zeros(job.num_classes, np.int64)
        self._histogram_CB = np.zeros((job.num_classes, BINS), np.int64)
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
        chance_N = hash_ids(part.image_ids_N, 0) % np.uint64(job.one_in)
        sample = np.flatnonzero(chance_N == 0)
        drawn_N = draws(part.image_ids_N, job.options.seed) if job.options.random else None
        phashes_N = part.phashes
        pieces = []
        for labels_M, log_odds_M, rows in part.pairs(bad_N, job.options.least, job.some):
            cells_M = labels_M.astype(np.intp)
            self._candidates_C += np.bincount(cells_M, minlength=job.num_classes)
            mine = sample if isinstance(rows, slice) else np.flatnonzero(np.isin(rows, sample))
            self._draw(cells_M[mine], log_odds_M[mine])
            values_M = log_odds_M if drawn_N is None else drawn_N[rows]
            hits = np.flatnonzero(values_M >= self._floors_C[cells_M])
            images = hits if isinstance(rows, slice) else rows[hits]
            phashes = None if phashes_N is None else phashes_N[images]
            ids = part.image_ids_N[images]
            pieces.append(Candidates(labels_M[hits], log_odds_M[hits], ids, phashes))
        self._fresh.append(joined(pieces))
        self._pairs += len(self._fresh[-1])
        if len(self._fresh) == FRESH:
            self._pieces.append(joined(self._fresh))
            self._fresh = []
        if self._pairs > self._prune_at:
            self._prune()

    def found(self) -> Found:
        """What the parts have brought."""
        seen = Seen(
            self._candidates_C,
            self._histogram_CB,
            np.concatenate(self._not_finite),
            np.array(self._spans, np.int64).reshape(-1, 3),
            np.zeros((self._job.num_classes, len(REASONS)), np.int64),
        )
        return Found(_few([*self._pieces, *self._fresh]), seen)

    def _draw(self, cells_S: Positions, log_odds_S: Values) -> None:
        """Add to the histogram."""
        # The bins are a half wide; what is beyond the first or the last one counts there.
        bins = np.clip(log_odds_S * 2 - 2 * HISTOGRAM_EDGES[0], 0, BINS - 1).astype(np.intp)
        cells = np.bincount(cells_S * BINS + bins, minlength=self._histogram_CB.size)
        self._histogram_CB += cells.reshape(-1, BINS)

    def _prune(self) -> None:
        kept = prune(self._job, joined([*self._pieces, *self._fresh]))
        self._floors_C = np.fmax(self._floors_C, floors(self._job, kept))
        self._pieces, self._fresh, self._pairs = [kept], [], len(kept)
        # Where K times the classes is more than that, pruning again at once would be in vain.
        self._prune_at = max(self._soonest, 2 * len(kept))
