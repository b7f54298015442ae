"""Guard: copies of one image count once in a class, and copies of known images do not count.

In: what a look has found, with the hashes of the images, and signatures of the labelled and of the
test images. Out: the same without copies, and how many were left out, by class and reason.

A class is judged from its best candidate down: one is left out if it is a copy of a known image, or
of a better one that was not left out. So it does not matter how many are judged below the last one
that is chosen. What is a copy is decided by thumbnails, which are read of few images only:

    held = contenders(job, found)            # the candidates, best first
    some = suspects(known, held)             # those whose hash is near another one
    held = distinct(job, known, held, signatures of these)
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from infra.devices import core_count
from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.matching import (
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near,
    near_known,
    near_pairs,
)
from tasks.topk.candidates import DROP_REASONS, Candidates, PartialResult, RoundJob, join, prune
from tasks.topk.class_ranges import best_of_classes, class_ranges, count_per_class
from tasks.topk.order import Ids, Labels, Positions
from tasks.topk.reader import Reader, Signatures, thumbnails_of

MIN_QUOTA_GROWTH, MAX_QUOTA_GROWTH = 1.5, 8.0  # from one look to the next
THUMBNAIL_PAIRS_PER_BLOCK = 50_000  # pairs of thumbnails, 77 MB as floats
HASH_PAIRS_PER_BLOCK = 4_000_000  # pairs of hashes, 32 MB

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]  # places in DROP_REASONS, or -1


@dataclass(frozen=True)
class PossibleDuplicates:
    """Images that may be copies, sorted, and where the parts are that have them."""

    ids_N: Ids
    spans_S3: npt.NDArray[np.int64]


def quota_with_reserve(quota_G: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many candidates are looked for where so many shall be left without copies."""
    return quota_G + quota_G // 4 + 16


def grown_quota(
    job: RoundJob,
    quota_G: npt.NDArray[np.int64],
    num_candidates_G: npt.NDArray[np.int64],
    underfilled_G: Flags,
) -> npt.NDArray[np.int64]:
    """How many are looked for next: more where so many were copies that there are too few."""
    share_G = np.clip(
        1.25 * job.quota_G / np.maximum(num_candidates_G, 1), MIN_QUOTA_GROWTH, MAX_QUOTA_GROWTH
    )
    more_G: npt.NDArray[np.int64] = np.where(
        underfilled_G, np.ceil(quota_G * share_G), quota_G
    ).astype(np.int64)
    return more_G


def shortlist(job: RoundJob, found: PartialResult) -> PartialResult:
    """The best of each class, best first."""
    pieces = list(found.pieces)
    if job.options.across_classes and pieces:
        pieces = [prune(job, join(pieces))]
    few = class_ranges(count_per_class(pieces, job.num_classes))
    with ThreadPoolExecutor(core_count()) as pool:
        return PartialResult(
            tuple(pool.map(partial(best_of_classes, job, pieces), few)), found.counts
        )


def possible_duplicates(exclude: Mapping[str, Output], found: PartialResult) -> PossibleDuplicates:
    """The images whose hash is near that of another one of their class, or of a known one."""
    found = replace(found, pieces=tuple(filter(len, found.pieces)))
    if not found.pieces:
        return PossibleDuplicates(np.zeros(0, np.int64), found.counts.spans_S3)
    with ThreadPoolExecutor(core_count()) as pool:
        marked_N = np.concatenate(list(pool.map(_near_in_class, found.pieces)))
    # An image is compared with the known ones once, for however many classes it competes.
    every_N = np.concatenate([piece.image_ids_N for piece in found.pieces])
    ids_I, firsts = np.unique(every_N, return_index=True)
    phashes_I = np.concatenate([_phashes(piece) for piece in found.pieces])[firsts]
    marked_I = np.isin(ids_I, every_N[marked_N])
    for output in exclude.values():
        for rows, _ in near_known(phashes_I, phashes_of(output)):
            marked_I[rows] = True
    return PossibleDuplicates(ids_I[marked_I], found.counts.spans_S3)


def _phashes(some: Candidates) -> Hashes:
    assert some.phashes_N is not None, "the hashes were read"
    return some.phashes_N


def _near_in_class(some: Candidates) -> Flags:
    """Which have a hash that is near to another one of their class."""
    labels_N, phashes_N = some.labels_N, _phashes(some)
    order = np.argsort(phashes_N, kind="stable")
    order = order[np.argsort(labels_N[order], kind="stable")]
    labels, phashes = labels_N[order], phashes_N[order]
    same = (labels[1:] == labels[:-1]) & (phashes[1:] == phashes[:-1])
    marked = np.append(same, False) | np.append(False, same)
    # Of those that are equal, one is compared with the others.
    ones = np.flatnonzero(~np.append(False, same))
    for first, second in near_pairs(labels[ones], phashes[ones]):
        marked[ones[first]] = True
        marked[ones[second]] = True
    marked_N = np.zeros(len(order), bool)
    marked_N[order] = marked
    return marked_N


def phashes_of(signatures: Output) -> Hashes:
    """The hashes of known images, in the order of the parts."""
    table = contract.read_rows(signatures, tables.SIGNATURES, ["phash"])
    phashes_K: Hashes = table["phash"].to_numpy()
    return phashes_K


def _known_thumbnails(signatures: Output, places: Positions) -> Thumbnails:
    """The thumbnails of known images, by their sorted positions; only of the parts that matter."""
    found, first = [np.zeros((0, THUMBNAIL_BYTES), np.uint8)], 0
    for part in signatures.body["parts"]:
        last = first + part["kept"]
        inside = places[(places >= first) & (places < last)] - first
        if len(inside):
            schema = tables.SIGNATURES
            table = contract.read_part(signatures.store, part["name"], schema, ["thumbnail"])
            found.append(thumbnails_of(table)[inside])
        first = last
    return Thumbnails.of(np.concatenate(found))


def parts_with(possible: PossibleDuplicates, names: Sequence[str]) -> list[tuple[str, Ids]]:
    """The parts that may have the images, and which images each of them may have."""
    ids, found = possible.ids_N, []
    spans_S3 = possible.spans_S3[np.argsort(possible.spans_S3[:, 0])]
    for number, lowest, highest in spans_S3.tolist():
        first, last = np.searchsorted(ids, [lowest, highest + 1])
        if first < last:
            found.append((names[number], ids[first:last]))
    return found


def read_signatures(reader: Reader, wanted: Sequence[tuple[str, Ids]]) -> Signatures:
    """The signatures of images of a few parts."""
    return merge_signatures([reader.signatures(name, ids) for name, ids in wanted])


def merge_signatures(several: Sequence[Signatures]) -> Signatures:
    """All of them, sorted by image_id."""
    thumbnails = [np.zeros((0, THUMBNAIL_BYTES), np.uint8), *(one.thumbnails_NT for one in several)]
    every = Signatures(
        np.concatenate([np.zeros(0, np.int64), *(one.image_ids_N for one in several)]),
        np.concatenate([np.zeros(0, np.uint64), *(one.phashes_N for one in several)]),
        np.concatenate(thumbnails),
    )
    return every.take(np.argsort(every.image_ids_N))


def drop_duplicates(
    job: RoundJob, exclude: Mapping[str, Output], found: PartialResult, signatures: Signatures
) -> PartialResult:
    """What is left without copies, and how many were left out before the last that is wanted."""
    known_duplicate_S = _known_duplicates(signatures, exclude)
    with ThreadPoolExecutor(core_count()) as pool:
        codes = list(
            pool.map(partial(rejection_codes, signatures, known_duplicate_S), found.pieces)
        )
    counts = _count_dropped(job, found.pieces, codes)
    left = [
        replace(piece.take(np.flatnonzero(codes_N < 0)), phashes_N=None)
        for piece, codes_N in zip(found.pieces, codes, strict=True)
    ]
    return PartialResult(tuple(left), replace(found.counts, dropped_CR=counts))


def _known_duplicates(signatures: Signatures, exclude: Mapping[str, Output]) -> Codes:
    """Which images are copies of known ones, as places in DROP_REASONS, or -1."""
    codes_S = np.full(len(signatures.image_ids_N), -1, np.int8)
    # A copy of both a labelled and a test image counts as that of a test image.
    for name in sorted(exclude, key=DROP_REASONS.index):
        codes_S[_duplicates_of_known(signatures, exclude[name])] = DROP_REASONS.index(name)
    return codes_S


def rejection_codes(signatures: Signatures, known_duplicate_S: Codes, some: Candidates) -> Codes:
    """Why each candidate is left out, as a place in DROP_REASONS, or -1."""
    codes_N = np.full(len(some), -1, np.int8)
    ids = signatures.image_ids_N
    if not len(ids):
        return codes_N
    places = np.minimum(np.searchsorted(ids, some.image_ids_N), len(ids) - 1)
    rows = np.flatnonzero(ids[places] == some.image_ids_N)
    places = places[rows]
    codes_N[rows] = known_duplicate_S[places]
    free = known_duplicate_S[places] < 0
    rows = rows[free]
    copies = _duplicates_of_better(some.labels_N[rows], signatures.take(places[free]))
    codes_N[rows[copies]] = DROP_REASONS.index("near_duplicates")
    return codes_N


def _duplicates_of_known(some: Signatures, exclude: Output) -> Flags:
    known_K = phashes_of(exclude)
    wanted_K, duplicate_S = np.zeros(len(known_K), bool), np.zeros(len(some.image_ids_N), bool)
    for _, others in near_known(some.phashes_N, known_K):
        wanted_K[others] = True
    places = np.flatnonzero(wanted_K)
    thumbnails = _known_thumbnails(exclude, places)
    for rows, others in near_known(some.phashes_N, known_K):
        open_M = ~duplicate_S[rows]
        row, place = rows[open_M], np.searchsorted(places, others[open_M])
        for at in range(0, len(row), THUMBNAIL_PAIRS_PER_BLOCK):
            few = slice(at, at + THUMBNAIL_PAIRS_PER_BLOCK)
            mine = Thumbnails.of(some.thumbnails_NT[row[few]])
            duplicate_S[row[few][mine.alike(thumbnails.take(place[few]))]] = True
    return duplicate_S


def _duplicates_of_better(labels_N: Labels, some: Signatures) -> Positions:
    """Which are copies of a better one of their class that is itself none; best first, by label."""
    duplicate_N = np.zeros(len(labels_N), bool)
    edges = np.append(np.flatnonzero(np.diff(labels_N, prepend=-1)), len(labels_N))
    for first, last in itertools.pairwise(edges.tolist()):
        duplicate_N[first:last] = _duplicates_in_class(some.take(np.arange(first, last)))
    return np.flatnonzero(duplicate_N)


def _duplicates_in_class(some: Signatures) -> Flags:
    """The same of one class: a block of the best against all that are left, and so on."""
    duplicate_N = np.zeros(len(some.phashes_N), bool)
    left = np.arange(len(duplicate_N))
    while len(left) > 1:
        size = max(1, HASH_PAIRS_PER_BLOCK // len(left))
        block = left[:size]
        hits = near(some.phashes_N[block][:, None], some.phashes_N[left])
        # Each is near itself.
        others = hits.sum(axis=0) - (np.arange(len(left)) < size)
        others[:size] += hits.sum(axis=1) - 1
        columns = np.flatnonzero(others)
        rows = columns[columns < size]
        few = Thumbnails.of(some.thumbnails_NT[left[columns]])
        hits = hits[rows][:, columns] & few.take(np.arange(len(rows))).all_alike(few)
        for row in range(len(rows)):
            if not duplicate_N[left[columns[row]]]:
                duplicate_N[left[columns[row + 1 :][hits[row, row + 1 :]]]] = True
        left = left[size:]
        left = left[~duplicate_N[left]]
    return duplicate_N


def _count_dropped(
    job: RoundJob, pieces: Sequence[Candidates], codes: Sequence[Codes]
) -> npt.NDArray[np.int64]:
    """How many of each class were left out for each reason before the last that is wanted."""
    counts = np.zeros(job.num_classes * len(DROP_REASONS), np.int64)
    if job.options.across_classes and pieces:
        pieces, codes = [join(pieces)], [np.concatenate(codes)]
    for some, codes_N in zip(pieces, codes, strict=True):
        order = np.arange(len(some))
        if job.options.across_classes:
            order = np.argsort(-job.values(some), kind="stable")
        kept = codes_N[order] < 0
        before: npt.NDArray[np.int64] = np.cumsum(kept) - kept
        if not job.options.across_classes:
            firsts = some.class_offsets(job.num_classes)[:-1]
            before = before - np.append(before, 0)[firsts][some.labels_N]
        quota_N = job.total_quota if job.options.across_classes else job.quota_G[some.labels_N]
        rows = order[~kept & (before < quota_N)]
        cells = some.labels_N[rows].astype(np.intp) * len(DROP_REASONS) + codes_N[rows]
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(-1, len(DROP_REASONS))
