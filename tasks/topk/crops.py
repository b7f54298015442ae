"""Crops: candidates that are crops, or brighter or darker copies, of others are dropped as well.

In: examined candidates, and `scores` with descriptors, of the pile and of known images by the same
teacher. Out: more codes of why candidates are dropped.

A class is examined from its best candidate down, as in dedup.py, but for those that are dropped
already. Candidates are compared with those of their class, and with the known images that have the
class among their P best. So many classes are examined at a time as one worker can hold the views
of; for each such group, the parts of the scores are read once.

    kept = kept_candidates(examined)
    for group in groups_of_classes(kept, limits):
        views = read_views(reader, parts_to_read(kept.images_of(group), names))
        group_codes = crop_codes(known, group, views)
    examined = with_crops(examined, *all_group_codes)
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from infra.devices import core_count
from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.duplicates.views import Views
from tasks.topk.candidates import DROP_REASONS
from tasks.topk.dedup import KEPT, NEAR_DUPLICATE, Codes, Examined, Flags, PossibleDuplicates
from tasks.topk.limits import Limits
from tasks.topk.order import Ids, Labels
from tasks.topk.views import IdentifiedViews, KnownViews

BLOCK_PAIRS = 10_000_000  # that a thread compares at a time: 80 MB
MAX_BLOCK = 512  # images of these; those that the first ones drop are not compared with others
LABELLED_TRIED = 200  # of a class, to see whether other images are taken for crops
MAX_ALIKE_SHARE, MIN_ALIKE_PAIRS = 0.001, 20


@dataclass(frozen=True)
class ClassGroup:
    """The kept candidates of some pieces in succession, by class, the best of each class first."""

    pieces: range
    labels_N: Labels
    image_ids_N: Ids


@dataclass(frozen=True)
class KeptCandidates:
    """The kept candidates of each piece, and the id ranges of all parts."""

    pieces: tuple[ClassGroup, ...]
    spans_S3: npt.NDArray[np.int64]

    def images_of(self, group: ClassGroup) -> PossibleDuplicates:
        """The images of a group, and where they lie."""
        return PossibleDuplicates(np.unique(group.image_ids_N), self.spans_S3)


@dataclass(frozen=True)
class GroupCodes:
    """The codes of a group, and of the pairs of labelled images tried, how many looked alike."""

    group: ClassGroup
    codes_N: Codes
    pairs_tried: int
    pairs_alike: int


def kept_candidates(examined: Examined) -> KeptCandidates:
    """Of each piece, the candidates that are not dropped."""
    groups = []
    for number, piece in enumerate(examined.result.pieces):
        rows = np.flatnonzero(examined.codes[number] == KEPT)
        labels_N, ids_N = piece.labels_N[rows], piece.image_ids_N[rows]
        groups.append(ClassGroup(range(number, number + 1), labels_N, ids_N))
    return KeptCandidates(tuple(groups), examined.result.counts.spans_S3)


def groups_of_classes(kept: KeptCandidates, limits: Limits) -> Iterator[ClassGroup]:
    """The pieces, joined up to as many candidates as are compared at a time."""
    waiting: list[ClassGroup] = []
    for piece in kept.pieces:
        rows = len(piece.labels_N) + sum(len(other.labels_N) for other in waiting)
        if waiting and rows > limits.views_per_group:
            yield _join(waiting)
            waiting = []
        waiting.append(piece)
    if waiting:
        yield _join(waiting)


def group_at(pieces: range, kept: KeptCandidates) -> ClassGroup:
    """The candidates of some pieces."""
    return _join(kept.pieces[pieces.start : pieces.stop])


def _join(pieces: Sequence[ClassGroup]) -> ClassGroup:
    return ClassGroup(
        range(pieces[0].pieces.start, pieces[-1].pieces.stop),
        np.concatenate([piece.labels_N for piece in pieces]),
        np.concatenate([piece.image_ids_N for piece in pieces]),
    )


def crop_codes(
    known: Mapping[str, Output], group: ClassGroup, identified: IdentifiedViews
) -> GroupCodes:
    """Why each candidate of a group is dropped, or KEPT."""
    codes_N = np.full(len(group.labels_N), KEPT, np.int8)
    labels = np.unique(group.labels_N)
    known_views = {role: KnownViews.read(scores, labels) for role, scores in known.items()}
    places_N = np.searchsorted(identified.image_ids_N, group.image_ids_N)

    def examine(bounds: tuple[int, int]) -> tuple[int, int]:
        rows = slice(*bounds)
        label = int(group.labels_N[rows.start])
        of_class = {role: views.of_class(label) for role, views in known_views.items()}
        codes_N[rows] = _codes_of_class(identified.views.take(places_N[rows]), of_class)
        return _try_labelled(of_class["labelled"]) if "labelled" in of_class else (0, 0)

    edges = np.flatnonzero(np.diff(group.labels_N.astype(np.int32), prepend=-1, append=-1))
    with ThreadPoolExecutor(core_count()) as pool:
        tried = list(pool.map(examine, pairwise(edges.tolist())))
    pairs_tried, pairs_alike = np.sum(tried, axis=0, dtype=int) if tried else (0, 0)
    return GroupCodes(group, codes_N, int(pairs_tried), int(pairs_alike))


def with_crops(examined: Examined, *groups: GroupCodes) -> Examined:
    """The codes of near-duplicates and those of crops."""
    codes = [codes_N.copy() for codes_N in examined.codes]
    for found in groups:
        first = 0
        for number in found.group.pieces:
            rows = np.flatnonzero(codes[number] == KEPT)
            codes[number][rows] = found.codes_N[first : first + len(rows)]
            first += len(rows)
    return replace(examined, codes=tuple(codes))


def check_features(groups: Sequence[GroupCodes]) -> None:
    """Raise ProtegeError where different images look alike, as small or uniform pictures do.

    Labelled images are different, but for the few that somebody has labelled twice.
    """
    tried = sum(group.pairs_tried for group in groups)
    alike = sum(group.pairs_alike for group in groups)
    if alike >= MIN_ALIKE_PAIRS and alike > MAX_ALIKE_SHARE * tried:
        raise ProtegeError(
            f"of {tried:,} pairs of labelled images, {alike:,} look like crops of one another: "
            "these pictures are too small or too uniform for that. Set topk.drop_crops=false"
        )


def _codes_of_class(candidates: Views, known: Mapping[str, Views]) -> Codes:
    """The codes of the candidates of a class, the best first."""
    codes_N = np.full(len(candidates), KEPT, np.int8)
    # In the order of DROP_REASONS: what shows a labelled and a test image counts as the latter.
    for role in sorted(known, key=DROP_REASONS.index):
        codes_N[_shows_any(candidates, known[role])] = DROP_REASONS.index(role)
    rows = np.flatnonzero(codes_N == KEPT)
    codes_N[rows[crops_of_better(candidates.take(rows))]] = NEAR_DUPLICATE
    return codes_N


def _shows_any(candidates: Views, known: Views) -> Flags:
    """Which candidates show the same as any known image."""
    # Imported here: it takes a while, and no other step needs it.
    from tasks.duplicates.crops import show_the_same

    flags_N, size = np.zeros(len(candidates), bool), _block_size(candidates)
    for first in range(0, len(known), size):
        block = known.take(np.arange(first, min(first + size, len(known))))
        known_rows, rows = np.nonzero(block.similar(candidates))
        flags_N[rows[show_the_same(block, candidates, known_rows, rows)]] = True
    return flags_N


def crops_of_better(candidates: Views) -> Flags:
    """Which candidates, the best first, show the same as a better one that is not itself dropped.

    A block of the best is compared with all that remain; what is not dropped then remains, without
    the block, for the next one.
    """
    from tasks.duplicates.crops import show_the_same

    dropped_N, remaining = np.zeros(len(candidates), bool), np.arange(len(candidates))
    while len(remaining) > 1:
        others = candidates.take(remaining)
        block = others.take(np.arange(min(_block_size(others), len(remaining))))
        rows, columns = np.nonzero(np.triu(block.similar(others), 1))
        same = show_the_same(block, others, rows, columns)
        # Rows come in their order, so that whether one is dropped is known before it drops others.
        for row, column in zip(rows[same].tolist(), columns[same].tolist()):
            if not dropped_N[remaining[row]]:
                dropped_N[remaining[column]] = True
        remaining = remaining[len(block) :]
        remaining = remaining[~dropped_N[remaining]]
    return dropped_N


def _block_size(others: Views) -> int:
    """How many images are compared with these at a time."""
    return max(1, min(MAX_BLOCK, BLOCK_PAIRS // max(1, len(others))))


def _try_labelled(labelled: Views) -> tuple[int, int]:
    """How many pairs of labelled images were compared, and how many show the same."""
    from tasks.duplicates.crops import show_the_same

    some = labelled.take(np.arange(min(LABELLED_TRIED, len(labelled))))
    rows, columns = np.nonzero(np.triu(some.similar(some), 1))
    same_M = show_the_same(some, some, rows, columns)
    return len(some) * (len(some) - 1) // 2, int(same_M.sum())
