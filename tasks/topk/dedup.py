"""Deduplication: near-duplicates count once in a class, and those of known images do not count.

Known images are those that the stage `signature` has signed: the labelled and the test images.
In: candidates with the hashes of their images, and the signatures of known images. Out: the same
candidates without near-duplicates, and how many were dropped, by class and reason.

A class is examined from its best candidate down: a candidate is dropped if it is a near-duplicate
of a known image, or of a better candidate that was not dropped. So the result does not depend on
how many candidates are examined below the last one that is chosen. Hashes find the few images that
may be near-duplicates; only of these the thumbnails are read, and thumbnails decide:

    result = shortlist(job, result)                      # the best of each class, sorted
    possible = possible_duplicates(exclude, result)      # images with a hash near another one
    signatures = read_signatures(reader, parts_to_read(possible, names))
    result = drop_duplicates(job, exclude, result, signatures)
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
from tasks.topk.candidates import (
    DROP_REASONS,
    Candidates,
    PartialResult,
    class_offsets,
    join,
    prune,
    values_of,
)
from tasks.topk.class_ranges import best_of_classes, count_per_class, split_classes
from tasks.topk.job import RoundJob
from tasks.topk.order import Ids, Positions
from tasks.topk.reader import Reader, Signatures, thumbnails_of

THUMBNAIL_PAIRS_PER_BLOCK = 50_000  # 77 MB as floats
HASH_PAIRS_PER_BLOCK = 4_000_000  # 32 MB

NEAR_DUPLICATE = DROP_REASONS.index("near_duplicates")
KEPT = -1

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]  # positions in DROP_REASONS, or KEPT


@dataclass(frozen=True)
class PossibleDuplicates:
    """Sorted ids of images that may be near-duplicates, and the id ranges of all parts."""

    ids_N: Ids
    spans_S3: npt.NDArray[np.int64]


def shortlist(job: RoundJob, result: PartialResult) -> PartialResult:
    """The candidates of each class within its quota, the best first, in a piece for each range."""
    pieces = result.pieces
    if job.options.across_classes:
        pieces = (prune(job, join(pieces)),)
    ranges = split_classes(count_per_class(pieces, job.num_classes))
    with ThreadPoolExecutor(core_count()) as pool:
        best = pool.map(partial(best_of_classes, job, pieces), ranges)
        return PartialResult(tuple(best), result.counts)


def possible_duplicates(exclude: Mapping[str, Output], result: PartialResult) -> PossibleDuplicates:
    """Images whose hash is near that of another image of their class, or of a known image."""
    pieces = [piece for piece in result.pieces if len(piece)]
    if not pieces:
        return PossibleDuplicates(np.zeros(0, np.int64), result.counts.spans_S3)
    with ThreadPoolExecutor(core_count()) as pool:
        near_in_class_N = np.concatenate(list(pool.map(_near_in_class, pieces)))
    # An image can be a candidate of several classes, but is compared with known images only once.
    ids_N = np.concatenate([piece.image_ids_N for piece in pieces])
    ids_I, first_rows = np.unique(ids_N, return_index=True)
    phashes_I = np.concatenate([piece.hashes for piece in pieces])[first_rows]
    possible_I = np.isin(ids_I, ids_N[near_in_class_N])
    for signatures in exclude.values():
        for rows, _ in near_known(phashes_I, _phashes_of(signatures)):
            possible_I[rows] = True
    return PossibleDuplicates(ids_I[possible_I], result.counts.spans_S3)


def _near_in_class(candidates: Candidates) -> Flags:
    """Which candidates have a hash that is near another one of their class."""
    order = np.argsort(candidates.hashes, kind="stable")
    order = order[np.argsort(candidates.labels_N[order], kind="stable")]
    labels, phashes = candidates.labels_N[order], candidates.hashes[order]
    equal = (labels[1:] == labels[:-1]) & (phashes[1:] == phashes[:-1])
    near_sorted = np.append(equal, False) | np.append(False, equal)
    # Of equal hashes of a class, only the first is compared with other hashes.
    distinct = np.flatnonzero(~np.append(False, equal))
    for first, second in near_pairs(labels[distinct], phashes[distinct]):
        near_sorted[distinct[first]] = True
        near_sorted[distinct[second]] = True
    near_N = np.zeros(len(order), bool)
    near_N[order] = near_sorted
    return near_N


def parts_to_read(possible: PossibleDuplicates, names: Sequence[str]) -> list[tuple[str, Ids]]:
    """Names of the parts that can have these images, each with the ids in its range."""
    ids, parts = possible.ids_N, []
    spans_S3 = possible.spans_S3[np.argsort(possible.spans_S3[:, 0])]
    for number, lowest, highest in spans_S3.tolist():
        first, last = np.searchsorted(ids, [lowest, highest + 1])
        if first < last:
            parts.append((names[number], ids[first:last]))
    return parts


def read_signatures(reader: Reader, parts: Sequence[tuple[str, Ids]]) -> Signatures:
    """The signatures of these images of these parts."""
    return merge_signatures([reader.signatures(name, ids) for name, ids in parts])


def merge_signatures(pieces: Sequence[Signatures]) -> Signatures:
    """All of these signatures, sorted by image_id."""
    no_thumbnails = np.zeros((0, THUMBNAIL_BYTES), np.uint8)
    signatures = Signatures(
        np.concatenate([np.zeros(0, np.int64), *(piece.image_ids_N for piece in pieces)]),
        np.concatenate([np.zeros(0, np.uint64), *(piece.phashes_N for piece in pieces)]),
        np.concatenate([no_thumbnails, *(piece.thumbnails_NT for piece in pieces)]),
    )
    return signatures.take(np.argsort(signatures.image_ids_N))


def drop_duplicates(
    job: RoundJob, exclude: Mapping[str, Output], result: PartialResult, signatures: Signatures
) -> PartialResult:
    """The candidates that are no near-duplicates, and how many were dropped within the quotas."""
    known_duplicate_S = known_duplicates(signatures, exclude)
    with ThreadPoolExecutor(core_count()) as pool:
        codes = list(
            pool.map(partial(rejection_codes, signatures, known_duplicate_S), result.pieces)
        )
    kept = [
        replace(piece.take(np.flatnonzero(codes_N == KEPT)), phashes_N=None)
        for piece, codes_N in zip(result.pieces, codes, strict=True)
    ]
    dropped_CR = count_dropped(job, result.pieces, codes)
    return PartialResult(tuple(kept), replace(result.counts, dropped_CR=dropped_CR))


def known_duplicates(signatures: Signatures, exclude: Mapping[str, Output]) -> Codes:
    """The rejection code of each image that is a near-duplicate of a known image, else KEPT."""
    codes_S = np.full(len(signatures.image_ids_N), KEPT, np.int8)
    # In the order of DROP_REASONS: what resembles a labelled and a test image counts as the latter.
    for role in sorted(exclude, key=DROP_REASONS.index):
        codes_S[_resembles(signatures, exclude[role])] = DROP_REASONS.index(role)
    return codes_S


def _resembles(signatures: Signatures, known: Output) -> Flags:
    """Which images are near-duplicates of known images."""
    phashes_K = _phashes_of(known)
    is_near_K, duplicate_S = (
        np.zeros(len(phashes_K), bool),
        np.zeros(len(signatures.phashes_N), bool),
    )
    for _, known_rows in near_known(signatures.phashes_N, phashes_K):
        is_near_K[known_rows] = True
    near_rows = np.flatnonzero(is_near_K)
    known_thumbnails = _known_thumbnails(known, near_rows)
    for rows, known_rows in near_known(signatures.phashes_N, phashes_K):
        undecided = ~duplicate_S[rows]
        rows, places = rows[undecided], np.searchsorted(near_rows, known_rows[undecided])
        for first in range(0, len(rows), THUMBNAIL_PAIRS_PER_BLOCK):
            block = slice(first, first + THUMBNAIL_PAIRS_PER_BLOCK)
            thumbnails = Thumbnails.of(signatures.thumbnails_NT[rows[block]])
            agree = thumbnails.alike(known_thumbnails.take(places[block]))
            duplicate_S[rows[block][agree]] = True
    return duplicate_S


def _phashes_of(known: Output) -> Hashes:
    """The hashes of known images, in the order of the parts."""
    phashes_K: Hashes = contract.read_rows(known, tables.SIGNATURES, ["phash"])["phash"].to_numpy()
    return phashes_K


def _known_thumbnails(known: Output, rows: Positions) -> Thumbnails:
    """The thumbnails of the known images in these sorted rows; parts without them are not read."""
    thumbnails, first = [np.zeros((0, THUMBNAIL_BYTES), np.uint8)], 0
    for part in known.body["parts"]:
        last = first + part["kept"]
        rows_of_part = rows[(rows >= first) & (rows < last)] - first
        if len(rows_of_part):
            schema = tables.SIGNATURES
            table = contract.read_part(known.store, part["name"], schema, ["thumbnail"])
            thumbnails.append(thumbnails_of(table)[rows_of_part])
        first = last
    return Thumbnails.of(np.concatenate(thumbnails))


def rejection_codes(
    signatures: Signatures, known_duplicate_S: Codes, candidates: Candidates
) -> Codes:
    """Why each candidate is dropped, or KEPT; candidates without a signature are kept.

    Within each class, the best candidates come first.
    """
    codes_N = np.full(len(candidates), KEPT, np.int8)
    ids_S = signatures.image_ids_N
    if not len(ids_S):
        return codes_N
    places_N = np.minimum(np.searchsorted(ids_S, candidates.image_ids_N), len(ids_S) - 1)
    rows = np.flatnonzero(ids_S[places_N] == candidates.image_ids_N)
    codes_N[rows] = known_duplicate_S[places_N[rows]]
    rows = rows[codes_N[rows] == KEPT]
    labels = candidates.labels_N[rows]
    edges = np.append(np.flatnonzero(np.diff(labels, prepend=-1)), len(labels))
    for first, last in itertools.pairwise(edges.tolist()):
        rows_of_class = rows[first:last]
        duplicate = _duplicates_in_class(signatures.take(places_N[rows_of_class]))
        codes_N[rows_of_class[duplicate]] = NEAR_DUPLICATE
    return codes_N


def _duplicates_in_class(signatures: Signatures) -> Flags:
    """Which images of a class are near-duplicates of a better one that is not itself dropped.

    The best images first. A block of the best is compared with all that remain; what is not
    dropped then remains, without the block, for the next one.
    """
    duplicate_N = np.zeros(len(signatures.phashes_N), bool)
    remaining = np.arange(len(duplicate_N))
    while len(remaining) > 1:
        size = max(1, HASH_PAIRS_PER_BLOCK // len(remaining))
        phashes = signatures.phashes_N[remaining]
        hits = near(phashes[:size, None], phashes)
        # Number of other images that each one is near to; every image is near itself.
        num_near = hits.sum(axis=0) - (np.arange(len(remaining)) < size)
        num_near[:size] += hits.sum(axis=1) - 1
        columns = np.flatnonzero(num_near)
        rows = columns[columns < size]
        thumbnails = Thumbnails.of(signatures.thumbnails_NT[remaining[columns]])
        agree = thumbnails.take(np.arange(len(rows))).all_alike(thumbnails)
        hits = hits[rows][:, columns] & agree
        for row in range(len(rows)):
            if not duplicate_N[remaining[columns[row]]]:
                worse = columns[row + 1 :][hits[row, row + 1 :]]
                duplicate_N[remaining[worse]] = True
        remaining = remaining[size:]
        remaining = remaining[~duplicate_N[remaining]]
    return duplicate_N


def count_dropped(
    job: RoundJob, pieces: Sequence[Candidates], codes: Sequence[Codes]
) -> npt.NDArray[np.int64]:
    """Candidates dropped before the last one within the quota, by class and reason, (C, R)."""
    dropped = np.zeros(job.num_classes * len(DROP_REASONS), np.int64)
    if job.options.across_classes and pieces:
        pieces, codes = [join(pieces)], [np.concatenate(codes)]
    for candidates, codes_N in zip(pieces, codes, strict=True):
        order = np.arange(len(candidates))
        if job.options.across_classes:
            order = np.argsort(-values_of(job, candidates), kind="stable")
        kept = codes_N[order] == KEPT
        kept_before: npt.NDArray[np.int64] = np.cumsum(kept) - kept
        if not job.options.across_classes:
            first_rows = class_offsets(candidates.labels_N, range(job.num_classes))[:-1]
            kept_before = kept_before - np.append(kept_before, 0)[first_rows][candidates.labels_N]
        quota_N = job.quota_G[0 if job.options.across_classes else candidates.labels_N]
        rows = order[~kept & (kept_before < quota_N)]
        cells = candidates.labels_N[rows].astype(np.intp) * len(DROP_REASONS) + codes_N[rows]
        dropped += np.bincount(cells, minlength=len(dropped))
    return dropped.reshape(-1, len(DROP_REASONS))
