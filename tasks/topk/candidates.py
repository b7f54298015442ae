"""Candidates: the few pairs (image, class) that can still be chosen, of the many that there are.

In: parts of `scores`, and for each class a floor, a value below which no pair can be chosen. Out:
the pairs at or above the floors, 14 bytes each (22 with hashes), and counts over all pairs that
were read. A floor only rises: when K candidates of a class are known, no pair below the K-th of
them can be chosen.

    buffer = CandidateBuffer(job, floors_C)
    for part in reader.parts(names): buffer.add(part)
    partial_result = buffer.result()
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.duplicates.matching import Hashes
from tasks.topk.job import RoundJob
from tasks.topk.order import Ids, Labels, Positions, Values, hash_ids, random_values, select_best
from tasks.topk.reader import Part

# Bins of the histogram of log-odds: a half each; the first and the last one are open.
HISTOGRAM_EDGES = np.arange(-24, 40.5, 0.5)
HISTOGRAM_BINS = len(HISTOGRAM_EDGES) - 1
PRUNE_PAIRS = 4_000_000  # 56 MB
MIN_PRUNE_PAIRS = 500_000  # with fewer, pruning costs more time than it saves
MAX_PIECES = 128  # each piece costs some time in every later step
PIECES_PER_JOIN = 16  # joining many pieces in one go takes much memory
# Why a candidate is dropped: it is a near-duplicate of a better candidate, or of such an image.
DROP_REASONS = ("near_duplicates", "labelled", "test")
NO_FLOOR = np.float32(-np.inf)


@dataclass(frozen=True)
class Candidates:
    """Pairs (image, class), sorted by label."""

    labels_N: Labels
    log_odds_N: Values
    image_ids_N: Ids
    phashes_N: Hashes | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def hashes(self) -> Hashes:
        """The perceptual hashes, which are read when near-duplicates are dropped."""
        assert self.phashes_N is not None, "the hashes were read"
        return self.phashes_N

    def take(self, positions: Positions) -> "Candidates":
        """The candidates at these positions."""
        return self._map(lambda column: column.take(positions))

    def view(self, first: int, last: int) -> "Candidates":
        """The candidates from the first to before the last; they share memory with these."""
        return self._map(lambda column: column[first:last])

    def _map(self, function: Callable[[Any], Any]) -> "Candidates":
        return Candidates(
            function(self.labels_N),
            function(self.log_odds_N),
            function(self.image_ids_N),
            None if self.phashes_N is None else function(self.phashes_N),
        )


@dataclass(frozen=True)
class ScanCounts:
    """Counts over all pairs that were read, also over those that were not kept.

    `spans_S3` has a row for each part: its number in the manifest, its lowest and its highest
    image_id. `dropped_CR` counts the candidates that were dropped, by class and DROP_REASONS.
    """

    candidates_C: npt.NDArray[np.int64]
    histogram_CB: npt.NDArray[np.int64]
    not_finite: Ids
    spans_S3: npt.NDArray[np.int64]
    dropped_CR: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartialResult:
    """What some parts contain: pieces of candidates, and counts."""

    pieces: tuple[Candidates, ...]
    counts: ScanCounts


def class_offsets(labels_N: Labels, classes: range) -> Positions:
    """Where each of these classes begins in sorted labels, and the end of the last: (C + 1,)."""
    # Keys of another type than the labels would make NumPy convert all of the labels.
    keys = np.arange(classes.start, classes.stop + 1, dtype=np.uint16)
    return np.searchsorted(labels_N, keys)


def join(pieces: Sequence[Candidates]) -> Candidates:
    """All candidates of these pieces in one."""
    if not pieces:
        return Candidates(np.zeros(0, np.uint16), np.zeros(0, np.float32), np.zeros(0, np.int64))
    labels_N = np.concatenate([piece.labels_N for piece in pieces])
    order = np.argsort(labels_N, kind="stable")  # a radix sort, for labels have 16 bits
    phashes = [piece.phashes_N for piece in pieces if piece.phashes_N is not None]
    return Candidates(
        labels_N.take(order),
        np.concatenate([piece.log_odds_N for piece in pieces]).take(order),
        np.concatenate([piece.image_ids_N for piece in pieces]).take(order),
        np.concatenate(phashes).take(order) if phashes else None,
    )


def join_if_many(pieces: Sequence[Candidates]) -> tuple[Candidates, ...]:
    """The same pieces, or a single one if there are more than MAX_PIECES."""
    return (join(pieces),) if len(pieces) > MAX_PIECES else tuple(pieces)


def values_of(job: RoundJob, candidates: Candidates) -> Values:
    """The values by which candidates compete; the greater value wins."""
    if job.options.random:
        return random_values(candidates.image_ids_N, job.options.seed)
    return candidates.log_odds_N


def groups_of(job: RoundJob, candidates: Candidates) -> Iterator[tuple[slice, int]]:
    """Each group of candidates that compete with one another, and its quota."""
    if job.options.across_classes:
        yield slice(0, len(candidates)), job.total_quota
        return
    offsets = class_offsets(candidates.labels_N, range(job.num_classes))
    for label in np.flatnonzero(np.diff(offsets)).tolist():
        yield slice(offsets[label], offsets[label + 1]), int(job.quota_G[label])


def prune(job: RoundJob, candidates: Candidates) -> Candidates:
    """The best candidates of each group, as many as its quota."""
    values_N = values_of(job, candidates)
    positions = [np.zeros(0, np.intp)]
    for group, quota in groups_of(job, candidates):
        labels, ids = candidates.labels_N[group], candidates.image_ids_N[group]
        positions.append(np.sort(select_best(values_N[group], labels, ids, quota)) + group.start)
    return candidates.take(np.concatenate(positions))


def floors(job: RoundJob, candidates: Candidates) -> Values:
    """The value of the last candidate within the quota of each class, or NO_FLOOR: shape (C,)."""
    floors_C = np.full(job.num_classes, NO_FLOOR)
    values_N = values_of(job, candidates)
    for group, quota in groups_of(job, candidates):
        position = group.stop - group.start - quota
        if position >= 0:
            labels = slice(None) if job.options.across_classes else candidates.labels_N[group.start]
            floors_C[labels] = np.partition(values_N[group], position)[position]
    return floors_C


def combine(job: RoundJob, partial_results: Sequence[PartialResult]) -> PartialResult:
    """The results of several groups of parts as one, pruned if it has many pairs."""
    pieces = join_if_many(
        [piece for part in partial_results for piece in part.pieces if len(piece)]
    )
    if len(pieces) > 1 and sum(map(len, pieces)) > max(PRUNE_PAIRS, 1.5 * job.total_quota):
        pieces = (prune(job, join(pieces)),)
    counts = [partial_result.counts for partial_result in partial_results]
    return PartialResult(
        pieces,
        ScanCounts(
            np.sum([count.candidates_C for count in counts], axis=0),
            np.sum([count.histogram_CB for count in counts], axis=0),
            np.concatenate([count.not_finite for count in counts]),
            np.concatenate([count.spans_S3 for count in counts]),
            np.sum([count.dropped_CR for count in counts], axis=0),
        ),
    )


class CandidateBuffer:
    """Collects the candidates of one part after the other, and keeps those that can be chosen."""

    def __init__(self, job: RoundJob, floors_C: Values) -> None:
        self._job = job
        self._floors_C = floors_C
        self._pieces: list[Candidates] = []
        self._new_pieces: list[Candidates] = []
        self._pairs = 0
        self._min_prune_pairs = min(PRUNE_PAIRS, max(MIN_PRUNE_PAIRS, 2 * job.total_quota))
        self._prune_pairs = self._min_prune_pairs
        self._candidates_C = np.zeros(job.num_classes, np.int64)
        self._histogram_CB = np.zeros((job.num_classes, HISTOGRAM_BINS), np.int64)
        self._not_finite = [np.zeros(0, np.int64)]
        self._spans: list[tuple[int, int, int]] = []

    def add(self, part: Part) -> None:
        """Count the pairs of a part, and keep those at or above the floors."""
        if not len(part.image_ids_N):
            return
        self._spans.append((part.number, part.image_ids_N.min(), part.image_ids_N.max()))
        not_finite_N = part.not_finite
        self._not_finite.append(part.image_ids_N[not_finite_N])
        piece = self._above_floors(part, not_finite_N)
        self._new_pieces.append(piece)
        self._pairs += len(piece)
        if len(self._new_pieces) == PIECES_PER_JOIN:
            self._pieces.append(join(self._new_pieces))
            self._new_pieces = []
        if self._pairs > self._prune_pairs:
            self._prune()

    def result(self) -> PartialResult:
        """The candidates and counts of all parts that were added."""
        counts = ScanCounts(
            self._candidates_C,
            self._histogram_CB,
            np.concatenate(self._not_finite),
            np.array(self._spans, np.int64).reshape(-1, 3),
            np.zeros((self._job.num_classes, len(DROP_REASONS)), np.int64),
        )
        return PartialResult(join_if_many([*self._pieces, *self._new_pieces]), counts)

    def _above_floors(self, part: Part, not_finite_N: npt.NDArray[np.bool_]) -> Candidates:
        job, options = self._job, self._job.options
        histogram_hash_N = hash_ids(part.image_ids_N, 0) % np.uint64(job.histogram_stride)
        histogram_rows = np.flatnonzero(histogram_hash_N == 0)
        random_N = random_values(part.image_ids_N, options.seed) if options.random else None
        phashes_N = part.phashes
        pieces = []
        for labels_M, log_odds_M, rows in part.pairs(
            not_finite_N, options.min_log_odds, job.class_filter
        ):
            classes_M = labels_M.astype(np.intp)
            self._candidates_C += np.bincount(classes_M, minlength=job.num_classes)
            in_histogram = histogram_rows
            if not isinstance(rows, slice):
                in_histogram = np.flatnonzero(np.isin(rows, histogram_rows))
            self._add_to_histogram(classes_M[in_histogram], log_odds_M[in_histogram])
            values_M = log_odds_M if random_N is None else random_N[rows]
            kept = np.flatnonzero(values_M >= self._floors_C[classes_M])
            kept_rows = kept if isinstance(rows, slice) else rows[kept]
            phashes = None if phashes_N is None else phashes_N[kept_rows]
            ids = part.image_ids_N[kept_rows]
            pieces.append(Candidates(labels_M[kept], log_odds_M[kept], ids, phashes))
        return join(pieces)

    def _add_to_histogram(self, classes_S: Positions, log_odds_S: Values) -> None:
        # Values beyond the first or the last bin count in that bin.
        bins = np.clip(log_odds_S * 2 - 2 * HISTOGRAM_EDGES[0], 0, HISTOGRAM_BINS - 1)
        cells = classes_S * HISTOGRAM_BINS + bins.astype(np.intp)
        counts = np.bincount(cells, minlength=self._histogram_CB.size)
        self._histogram_CB += counts.reshape(-1, HISTOGRAM_BINS)

    def _prune(self) -> None:
        pruned = prune(self._job, join([*self._pieces, *self._new_pieces]))
        self._floors_C = np.fmax(self._floors_C, floors(self._job, pruned))
        self._pieces, self._new_pieces, self._pairs = [pruned], [], len(pruned)
        # The quotas can be larger than the bound; then pruning again at once would remove little.
        self._prune_pairs = max(self._min_prune_pairs, 2 * len(pruned))
