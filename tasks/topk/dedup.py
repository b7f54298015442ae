"""Deduplication: near-duplicates count once in a class, and those of known images do not count.

Known images are those that the stage `signature` has signed: the labelled and the test images.
In: candidates with the hashes of their images, and the signatures of known images. Out: the same
candidates without near-duplicates, and how many were dropped, by class and reason.

A class is examined from its best candidate down: a candidate is dropped if it is a near-duplicate
of a known image, or of a better candidate that was not dropped. So the result does not depend on
how many candidates are examined below the last one that is chosen. Hashes find the few images that
may be near-duplicates; only of these the thumbnails are read, and thumbnails decide:

    result = shortlist(job, result)                # the best of each class, sorted
    marked = mark_possible(exclude, result)        # those with a hash near another one
    signatures = read_signatures(reader, parts_to_read(possible_ids(marked), names))
    examined = examine(job, exclude, marked, signatures)
    result = drop(job, examined)
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from infra.devices import core_count
from infra.store import Store
from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.matching import (
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near,
    near_known,
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
from tasks.topk.limits import Limits
from tasks.topk.order import Ids, Positions
from tasks.topk.reader import Reader, Signatures, thumbnails_of

NEAR_DUPLICATE = DROP_REASONS.index("near_duplicates")
KEPT = -1

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]  # positions in DROP_REASONS, or KEPT


@dataclass(frozen=True)
class Marked:
    """Candidates, and in each piece the rows that may be near-duplicates."""

    result: PartialResult
    rows: tuple[Positions, ...]


@dataclass(frozen=True)
class Examined:
    """Candidates, and for each piece why each candidate is dropped, or KEPT."""

    result: PartialResult
    codes: tuple[Codes, ...]


@dataclass(frozen=True)
class PossibleDuplicates:
    """Sorted ids of images that may be near-duplicates, and the id ranges of all parts."""

    ids_N: Ids
    spans_S3: npt.NDArray[np.int64]


def shortlist(job: RoundJob, result: PartialResult) -> PartialResult:
    """The candidates of each class within its quota, the best first, in a piece for each range."""
    pieces = result.pieces
    if job.rules.across_classes:
        pieces = (prune(job, join(pieces)),)
    counts_C = count_per_class(pieces, job.num_classes)
    ranges = split_classes(counts_C, job.limits.rows_per_range)
    with ThreadPoolExecutor(core_count()) as pool:
        best = pool.map(partial(best_of_classes, job, pieces), ranges)
        return PartialResult(tuple(best), result.counts)


def mark_possible(exclude: Mapping[str, Output], result: PartialResult) -> Marked:
    """Candidates whose hash is near that of another one of their class, or of a known image."""
    # Imported here: it takes a while, and no other step needs it.
    from tasks.duplicates.search import KnownHashes, near_in_class

    pieces = tuple(piece for piece in result.pieces if len(piece))
    known_hashes = [KnownHashes.of(_phashes_of(signatures)) for signatures in exclude.values()]

    def mark(piece: Candidates) -> Positions:
        near_N = near_in_class(piece.labels_N, piece.hashes)
        for known in known_hashes:
            near_N |= known.near(piece.hashes)
        return np.flatnonzero(near_N)

    with ThreadPoolExecutor(core_count()) as pool:
        rows = tuple(pool.map(mark, pieces))
    # The hashes are not needed any more.
    pieces = tuple(replace(piece, phashes_N=None) for piece in pieces)
    return Marked(replace(result, pieces=pieces), rows)


def possible_ids(marked: Marked) -> PossibleDuplicates:
    """The images of the marked candidates."""
    pieces = zip(marked.result.pieces, marked.rows, strict=True)
    ids = [np.zeros(0, np.int64), *(piece.image_ids_N[rows] for piece, rows in pieces)]
    return PossibleDuplicates(np.unique(np.concatenate(ids)), marked.result.counts.spans_S3)


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


def examine(
    job: RoundJob, exclude: Mapping[str, Output], marked: Marked, signatures: Signatures
) -> Examined:
    """Which candidates are near-duplicates."""
    known_duplicate_S = known_duplicates(signatures, exclude, job.limits)
    with ThreadPoolExecutor(core_count()) as pool:
        codes_of = partial(rejection_codes, signatures, known_duplicate_S, limits=job.limits)
        codes = tuple(pool.map(codes_of, marked.result.pieces, marked.rows))
    return Examined(marked.result, codes)


def drop(job: RoundJob, examined: Examined) -> PartialResult:
    """The candidates that are kept, and how many were dropped within the quotas."""
    result, codes = examined.result, examined.codes
    kept = [
        piece.take(np.flatnonzero(codes_N == KEPT))
        for piece, codes_N in zip(result.pieces, codes, strict=True)
    ]
    dropped_CR = count_dropped(job, result.pieces, codes)
    return PartialResult(tuple(kept), replace(result.counts, dropped_CR=dropped_CR))


def known_duplicates(
    signatures: Signatures, exclude: Mapping[str, Output], limits: Limits
) -> Codes:
    """The rejection code of each image that is a near-duplicate of a known image, else KEPT."""
    codes_S = np.full(len(signatures.image_ids_N), KEPT, np.int8)
    # In the order of DROP_REASONS: what resembles a labelled and a test image counts as the latter.
    for role in sorted(exclude, key=DROP_REASONS.index):
        duplicate_S = _resembles_known(signatures, exclude[role], limits)
        codes_S[duplicate_S] = DROP_REASONS.index(role)
    return codes_S


def _resembles_known(signatures: Signatures, known: Output, limits: Limits) -> Flags:
    """Which images are near-duplicates of known images."""
    from tasks.duplicates.search import KnownHashes

    phashes_K = _phashes_of(known)
    near_rows = np.flatnonzero(KnownHashes.of(phashes_K).near(signatures.phashes_N))
    near_images = signatures.take(near_rows)
    is_near_K = np.zeros(len(phashes_K), bool)
    for _, known_rows in near_known(near_images.phashes_N, phashes_K):
        is_near_K[known_rows] = True
    near_known_rows = np.flatnonzero(is_near_K)
    known_thumbnails = _known_thumbnails(known, near_known_rows)
    duplicate_S = np.zeros(len(signatures.phashes_N), bool)
    for rows, known_rows in near_known(near_images.phashes_N, phashes_K):
        undecided = ~duplicate_S[near_rows[rows]]
        rows, places = rows[undecided], np.searchsorted(near_known_rows, known_rows[undecided])
        for first in range(0, len(rows), limits.thumbnail_pairs_per_block):
            block = slice(first, first + limits.thumbnail_pairs_per_block)
            thumbnails = Thumbnails.of(near_images.thumbnails_NT[rows[block]])
            agree = thumbnails.agree(known_thumbnails.take(places[block]))
            duplicate_S[near_rows[rows[block][agree]]] = True
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
            thumbnails.append(_thumbnails_at(known.store, part["name"], rows_of_part))
        first = last
    return Thumbnails.of(np.concatenate(thumbnails))


def _thumbnails_at(store: Store, name: str, rows: Positions) -> npt.NDArray[np.uint8]:
    """The thumbnails in these sorted rows of a part, of which no more is kept in memory."""
    found, first = [], 0
    for piece in contract.read_pieces(store, name, tables.SIGNATURES, ["thumbnail"]):
        inside = rows[(rows >= first) & (rows < first + len(piece))] - first
        found.append(thumbnails_of(piece)[inside])
        first += len(piece)
    return np.concatenate(found)


def rejection_codes(
    signatures: Signatures,
    known_duplicate_S: Codes,
    candidates: Candidates,
    rows: Positions,
    limits: Limits,
) -> Codes:
    """Why each candidate is dropped, or KEPT, as all are but the ones in these marked rows.

    Within each class, the best candidates come first.
    """
    codes_N = np.full(len(candidates), KEPT, np.int8)
    places = np.searchsorted(signatures.image_ids_N, candidates.image_ids_N[rows])
    codes_N[rows] = known_duplicate_S[places]
    undecided = codes_N[rows] == KEPT
    rows, places = rows[undecided], places[undecided]
    labels = candidates.labels_N[rows]
    edges = np.append(np.flatnonzero(np.diff(labels, prepend=-1)), len(labels))
    for first, last in itertools.pairwise(edges.tolist()):
        duplicate = _duplicates_in_class(signatures.take(places[first:last]), limits)
        codes_N[rows[first:last][duplicate]] = NEAR_DUPLICATE
    return codes_N


def _duplicates_in_class(signatures: Signatures, limits: Limits) -> Flags:
    """Which images of a class are near-duplicates of a better one that is not itself dropped.

    The best images first. A block of the best is compared with all that remain; what is not
    dropped then remains, without the block, for the next one.
    """
    duplicate_N = np.zeros(len(signatures.phashes_N), bool)
    remaining = np.arange(len(duplicate_N))
    while len(remaining) > 1:
        size = max(1, limits.hash_pairs_per_block // len(remaining))
        phashes = signatures.phashes_N[remaining]
        hits = near(phashes[:size, None], phashes)
        # Number of other images that each one is near to; every image is near itself.
        num_near = hits.sum(axis=0) - (np.arange(len(remaining)) < size)
        num_near[:size] += hits.sum(axis=1) - 1
        columns = np.flatnonzero(num_near)
        rows = columns[columns < size]
        thumbnails = Thumbnails.of(signatures.thumbnails_NT[remaining[columns]])
        agree = thumbnails.take(np.arange(len(rows))).all_agree(thumbnails)
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
    if job.rules.across_classes and pieces:
        pieces, codes = [join(pieces)], [np.concatenate(codes)]
    for candidates, codes_N in zip(pieces, codes, strict=True):
        order = np.arange(len(candidates))
        if job.rules.across_classes:
            order = np.argsort(-values_of(job, candidates), kind="stable")
        kept = codes_N[order] == KEPT
        kept_before: npt.NDArray[np.int64] = np.cumsum(kept) - kept
        if not job.rules.across_classes:
            first_rows = class_offsets(candidates.labels_N, range(job.num_classes))[:-1]
            kept_before = kept_before - np.append(kept_before, 0)[first_rows][candidates.labels_N]
        quota_N = job.quota_G[0 if job.rules.across_classes else candidates.labels_N]
        rows = order[~kept & (kept_before < quota_N)]
        cells = candidates.labels_N[rows].astype(np.intp) * len(DROP_REASONS) + codes_N[rows]
        dropped += np.bincount(cells, minlength=len(dropped))
    return dropped.reshape(-1, len(DROP_REASONS))
