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
from tasks.duplicates.matching import THUMBNAIL, Hashes, Thumbnails, near, near_known, near_pairs
from tasks.topk.candidates import REASONS, Candidates, Counts, Found, Job, joined, prune
from tasks.topk.class_ranges import best_first, counted, ranges
from tasks.topk.order import Ids, Labels, Positions
from tasks.topk.reader import Reader, Signatures, thumbnails_of

LEAST_GROWTH, MOST_GROWTH = 1.5, 8.0  # from one look to the next
ALIKE_AT_ONCE = 50_000  # pairs of thumbnails, 77 MB as floats
BLOCK = 4_000_000  # pairs of hashes, 32 MB

Flags = npt.NDArray[np.bool_]
Reasons = npt.NDArray[np.int8]  # places in REASONS, or -1


@dataclass(frozen=True)
class Suspects:
    """Images that may be copies, sorted, and where the parts are that have them."""

    ids_N: Ids
    spans_S3: npt.NDArray[np.int64]


def wanted_with_copies(wanted_G: Counts) -> Counts:
    """How many candidates are looked for where so many shall be left without copies."""
    return wanted_G + wanted_G // 4 + 16


def deeper(job: Job, wanted_G: Counts, held_G: Counts, short_G: Flags) -> Counts:
    """How many are looked for next: more where so many were copies that there are too few."""
    share_G = np.clip(1.25 * job.wanted_G / np.maximum(held_G, 1), LEAST_GROWTH, MOST_GROWTH)
    more_G: Counts = np.where(short_G, np.ceil(wanted_G * share_G), wanted_G).astype(np.int64)
    return more_G


def contenders(job: Job, found: Found) -> Found:
    """The best of each class, best first."""
    pieces = list(found.pieces)
    if job.options.together and pieces:
        pieces = [prune(job, joined(pieces))]
    few = ranges(counted(pieces, job.num_classes))
    with ThreadPoolExecutor(core_count()) as pool:
        return Found(tuple(pool.map(partial(best_first, job, pieces), few)), found.seen)


def suspects(known: Mapping[str, Output], found: Found) -> Suspects:
    """The images whose hash is near that of another one of their class, or of a known one."""
    found = replace(found, pieces=tuple(filter(len, found.pieces)))
    if not found.pieces:
        return Suspects(np.zeros(0, np.int64), found.seen.spans_S3)
    with ThreadPoolExecutor(core_count()) as pool:
        marked_N = np.concatenate(list(pool.map(_near_in_class, found.pieces)))
    # An image is compared with the known ones once, for however many classes it competes.
    every_N = np.concatenate([piece.image_ids_N for piece in found.pieces])
    ids_I, firsts = np.unique(every_N, return_index=True)
    phashes_I = np.concatenate([_hashes(piece) for piece in found.pieces])[firsts]
    marked_I = np.isin(ids_I, every_N[marked_N])
    for output in known.values():
        for rows, _ in near_known(phashes_I, phashes_of(output)):
            marked_I[rows] = True
    return Suspects(ids_I[marked_I], found.seen.spans_S3)


def _hashes(some: Candidates) -> Hashes:
    assert some.phashes_N is not None, "the hashes were read"
    return some.phashes_N


def _near_in_class(some: Candidates) -> Flags:
    """Which have a hash that is near to another one of their class."""
    labels_N, phashes_N = some.labels_N, _hashes(some)
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
    found, first = [np.zeros((0, THUMBNAIL), np.uint8)], 0
    for part in signatures.body["parts"]:
        last = first + part["kept"]
        inside = places[(places >= first) & (places < last)] - first
        if len(inside):
            schema = tables.SIGNATURES
            table = contract.read_part(signatures.store, part["name"], schema, ["thumbnail"])
            found.append(thumbnails_of(table)[inside])
        first = last
    return Thumbnails.of(np.concatenate(found))


def parts_with(suspects: Suspects, names: Sequence[str]) -> list[tuple[str, Ids]]:
    """The parts that may have the images, and which images each of them may have."""
    ids, found = suspects.ids_N, []
    for number, lowest, highest in suspects.spans_S3[np.argsort(suspects.spans_S3[:, 0])].tolist():
        first, last = np.searchsorted(ids, [lowest, highest + 1])
        if first < last:
            found.append((names[number], ids[first:last]))
    return found


def read_signatures(reader: Reader, wanted: Sequence[tuple[str, Ids]]) -> Signatures:
    """The signatures of images of a few parts."""
    return merged([reader.signatures(name, ids) for name, ids in wanted])


def merged(several: Sequence[Signatures]) -> Signatures:
    """All of them, sorted by image_id."""
    thumbnails = [np.zeros((0, THUMBNAIL), np.uint8), *(one.thumbnails_NT for one in several)]
    every = Signatures(
        np.concatenate([np.zeros(0, np.int64), *(one.image_ids_N for one in several)]),
        np.concatenate([np.zeros(0, np.uint64), *(one.phashes_N for one in several)]),
        np.concatenate(thumbnails),
    )
    return every.take(np.argsort(every.image_ids_N))


def distinct(job: Job, known: Mapping[str, Output], found: Found, signatures: Signatures) -> Found:
    """What is left without copies, and how many were left out before the last that is wanted."""
    outside_S = _outside(signatures, known)
    with ThreadPoolExecutor(core_count()) as pool:
        judged = list(pool.map(partial(_judged, signatures, outside_S), found.pieces))
    counts = _counts(job, found.pieces, judged)
    left = [
        replace(piece.take(np.flatnonzero(reasons_N < 0)), phashes_N=None)
        for piece, reasons_N in zip(found.pieces, judged, strict=True)
    ]
    return Found(tuple(left), replace(found.seen, dropped_CR=counts))


def _outside(signatures: Signatures, known: Mapping[str, Output]) -> Reasons:
    """Which images are copies of known ones, as places in REASONS, or -1."""
    reasons_S = np.full(len(signatures.image_ids_N), -1, np.int8)
    # A copy of both a labelled and a test image counts as that of a test image.
    for name in sorted(known, key=REASONS.index):
        reasons_S[_copies_of_known(signatures, known[name])] = REASONS.index(name)
    return reasons_S


def _judged(signatures: Signatures, outside_S: Reasons, some: Candidates) -> Reasons:
    """Why each candidate is left out, as a place in REASONS, or -1."""
    reasons_N = np.full(len(some), -1, np.int8)
    ids = signatures.image_ids_N
    if not len(ids):
        return reasons_N
    places = np.minimum(np.searchsorted(ids, some.image_ids_N), len(ids) - 1)
    rows = np.flatnonzero(ids[places] == some.image_ids_N)
    places = places[rows]
    reasons_N[rows] = outside_S[places]
    free = outside_S[places] < 0
    rows = rows[free]
    copies = _copies_of_better(some.labels_N[rows], signatures.take(places[free]))
    reasons_N[rows[copies]] = REASONS.index("near_duplicates")
    return reasons_N


def _copies_of_known(some: Signatures, known: Output) -> Flags:
    known_K = phashes_of(known)
    wanted_K, copy_S = np.zeros(len(known_K), bool), np.zeros(len(some.image_ids_N), bool)
    for _, others in near_known(some.phashes_N, known_K):
        wanted_K[others] = True
    places = np.flatnonzero(wanted_K)
    thumbnails = _known_thumbnails(known, places)
    for rows, others in near_known(some.phashes_N, known_K):
        open_M = ~copy_S[rows]
        row, place = rows[open_M], np.searchsorted(places, others[open_M])
        for at in range(0, len(row), ALIKE_AT_ONCE):
            few = slice(at, at + ALIKE_AT_ONCE)
            mine = Thumbnails.of(some.thumbnails_NT[row[few]])
            copy_S[row[few][mine.alike(thumbnails.take(place[few]))]] = True
    return copy_S


def _copies_of_better(labels_N: Labels, some: Signatures) -> Positions:
    """Which are copies of a better one of their class that is itself none; best first, by label."""
    copy_N = np.zeros(len(labels_N), bool)
    edges = np.append(np.flatnonzero(np.diff(labels_N, prepend=-1)), len(labels_N))
    for first, last in itertools.pairwise(edges.tolist()):
        copy_N[first:last] = _copies_in_class(some.take(np.arange(first, last)))
    return np.flatnonzero(copy_N)


def _copies_in_class(some: Signatures) -> Flags:
    """The same of one class: a block of the best against all that are left, and so on."""
    copy_N = np.zeros(len(some.phashes_N), bool)
    left = np.arange(len(copy_N))
    while len(left) > 1:
        size = max(1, BLOCK // len(left))
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
            if not copy_N[left[columns[row]]]:
                copy_N[left[columns[row + 1 :][hits[row, row + 1 :]]]] = True
        left = left[size:]
        left = left[~copy_N[left]]
    return copy_N


def _counts(job: Job, pieces: Sequence[Candidates], judged: Sequence[Reasons]) -> Counts:
    """How many of each class were left out for each reason before the last that is wanted."""
    counts = np.zeros(job.num_classes * len(REASONS), np.int64)
    if job.options.together and pieces:
        pieces, judged = [joined(pieces)], [np.concatenate(judged)]
    for some, reasons_N in zip(pieces, judged, strict=True):
        order = np.arange(len(some))
        if job.options.together:
            order = np.argsort(-job.values(some), kind="stable")
        kept = reasons_N[order] < 0
        before: Counts = np.cumsum(kept) - kept
        if not job.options.together:
            firsts = some.bounds(job.num_classes)[:-1]
            before = before - np.append(before, 0)[firsts][some.labels_N]
        wanted_N = job.most if job.options.together else job.wanted_G[some.labels_N]
        rows = order[~kept & (before < wanted_N)]
        cells = some.labels_N[rows].astype(np.intp) * len(REASONS) + reasons_N[rows]
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(-1, len(REASONS))
