"""Parts: the columns of one part of `scores` that a choice needs, checked.

In: the name of a part. Out: its images, and for each rank (or for the tags) the pairs of images and
classes. Nothing is read that is not needed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.matching import THUMBNAIL_BYTES, Hashes
from tasks.topk.options import TopkOptions
from tasks.topk.order import Ids, Labels, Positions, Values

PREFETCH_ROWS = 200_000  # so many are read while a part is looked at,
PREFETCH_PARTS = 2, 16  # in at least and at most so many parts: small ones wait for a far store

PartName = tuple[int, str]  # the place of a part in its manifest, and what it is called

# Labels, log-odds and the rows of the part that they belong to.
Pairs = tuple[Labels, Values, Positions | slice]


@dataclass(frozen=True)
class Reader:
    """Reads parts of an output of `score`. It travels with every task, so it knows no names."""

    scores: Output
    scored_p: int
    num_classes: int
    num_parts: int
    options: TopkOptions

    @property
    def parts_ahead(self) -> int:
        """How many parts are read at a time."""
        rows = self.scores.kept // max(1, self.num_parts)
        fewest, most = PREFETCH_PARTS
        return min(most, max(fewest, PREFETCH_ROWS // max(1, rows)))

    def parts(self, names: Sequence[PartName]) -> Iterator["Part"]:
        """These parts; the next ones are read while the caller has one."""
        parts_ahead = self.parts_ahead
        with ThreadPoolExecutor(parts_ahead) as pool:
            reading = [pool.submit(self.part, name) for name in names[:parts_ahead]]
            for at in range(len(names)):
                part = reading.pop(0).result()
                if at + parts_ahead < len(names):
                    reading.append(pool.submit(self.part, names[at + parts_ahead]))
                yield part

    def part(self, which: PartName) -> "Part":
        """A part. Raises ProtegeError, naming it, when it is damaged."""
        number, name = which
        width = 0 if self.options.by_tag else self.options.width(self.scored_p)
        columns = [one for rank in range(width) for one in tables.score_columns(rank)]
        columns = columns or list(tables.TAGGED)
        if self.options.drop_near_duplicates:
            columns.append("phash")
        table = contract.read_part(
            self.scores.store, name, tables.scores(self.scored_p), ["image_id", *columns]
        )
        part = Part(number, _column(table, "image_id"), table, width)
        self._check(part, f"{self.scores.uri}/{name}")
        return part

    def ids(self, name: str) -> Ids:
        """The images of a part."""
        schema = tables.scores(self.scored_p)
        table = contract.read_part(self.scores.store, name, schema, ["image_id"])
        return _column(table, "image_id")

    def signatures(self, name: str, ids: Ids) -> "Signatures":
        """Those of these images that are in a part."""
        schema, columns = tables.scores(self.scored_p), ["image_id", "phash", "thumbnail"]
        table = contract.read_part(self.scores.store, name, schema, columns, only=ids)
        return Signatures(_column(table, "image_id"), _column(table, "phash"), thumbnails_of(table))

    def _check(self, part: "Part", place: str) -> None:
        ids_N = part.image_ids_N
        if (ids_N[1:] <= ids_N[:-1]).any():
            sorted_N = np.sort(ids_N)
            twice = sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]
            if len(twice):
                raise ProtegeError(f"{place} has image {twice[0]} twice: delete it and run again")
        for labels_M, _, _ in part.all_pairs():
            if len(labels_M) and labels_M.max() >= self.num_classes:
                raise ProtegeError(
                    f"{place} has a class {labels_M.max()} of {self.num_classes}: delete it and "
                    "run again"
                )


@dataclass(frozen=True)
class Signatures:
    """What copies of some images are found by."""

    image_ids_N: Ids
    phashes_N: Hashes
    thumbnails_NT: npt.NDArray[np.uint8]

    def take(self, rows: Positions) -> "Signatures":
        """Some of them."""
        return Signatures(self.image_ids_N[rows], self.phashes_N[rows], self.thumbnails_NT[rows])


@dataclass(frozen=True)
class Part:
    """A part of `scores`, or what was read of it."""

    number: int
    image_ids_N: Ids
    table: pa.Table
    width: int

    @property
    def not_finite(self) -> npt.NDArray[np.bool_]:
        """The images with a score that is not a number, shape (N,)."""
        bad_N = np.zeros(len(self.image_ids_N), bool)
        for _, log_odds_M, rows in self.all_pairs():
            # The maximum is NaN if there is any, and is found faster than where it is.
            if len(log_odds_M) and np.isnan(log_odds_M.max()):
                bad_N[np.arange(len(bad_N))[rows][np.isnan(log_odds_M)]] = True
        return bad_N

    @property
    def phashes(self) -> Hashes | None:
        """The hashes of the images, shape (N,), if they were asked for."""
        return _column(self.table, "phash") if "phash" in self.table.column_names else None

    def pairs(
        self, bad_N: npt.NDArray[np.bool_], least: np.float32, classes: range | None
    ) -> Iterator[Pairs]:
        """The pairs without the bad images, with log-odds of at least so much, of some classes.

        None are all classes. Of some, the first is 0 in what comes out.
        """
        some_bad = bool(bad_N.any())
        for labels_M, log_odds_M, rows in self.all_pairs():
            if not some_bad and least == -np.inf and classes is None:
                yield labels_M, log_odds_M, rows
                continue
            all_rows = np.arange(len(bad_N))[rows]
            good_M = ~bad_N[all_rows] & (log_odds_M >= least)
            first = classes.start if classes else 0
            if classes:
                good_M &= (labels_M >= first) & (labels_M < classes.stop)
            keep = np.flatnonzero(good_M)
            yield labels_M[keep] - np.uint16(first), log_odds_M[keep], all_rows[keep]

    def all_pairs(self) -> Iterator[Pairs]:
        """The pairs rank by rank, or those of the tags."""
        for rank in range(self.width):
            labels, log_odds = tables.score_columns(rank)
            yield _column(self.table, labels), _column(self.table, log_odds), slice(None)
        if not self.width:
            labels, log_odds = tables.TAGGED
            counts_N = self.table[labels].combine_chunks().value_lengths().to_numpy()
            rows = np.repeat(np.arange(len(counts_N)), counts_N)
            yield _flat(self.table, labels), _flat(self.table, log_odds), rows


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].to_numpy()
    return values


def _flat(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].combine_chunks().flatten().to_numpy()
    return values


def thumbnails_of(table: pa.Table) -> npt.NDArray[np.uint8]:
    """The column of the thumbnails, (N, bytes)."""
    values = table["thumbnail"].combine_chunks()
    data = np.frombuffer(values.buffers()[1] or b"", np.uint8).reshape(-1, THUMBNAIL_BYTES)
    return data[values.offset : values.offset + len(values)]


def check_ids(reader: Reader, names: Sequence[str], spans_S3: npt.NDArray[np.int64]) -> None:
    """Raise ProtegeError, naming both parts, when an image is in two of them.

    Parts whose ids do not overlap, as those of one pile, need not be read for it.
    """
    spans = spans_S3[np.argsort(spans_S3[:, 1], kind="stable")]
    overlap = spans[1:, 1] <= np.maximum.accumulate(spans[:, 2])[:-1]
    if not overlap.any():
        return
    several = np.flatnonzero(np.append(overlap, False) | np.append(False, overlap))
    numbers = spans[several, 0].tolist()
    ids = [reader.ids(names[number]) for number in numbers]
    every = np.concatenate(ids)
    order = np.argsort(every, kind="stable")
    twice = np.flatnonzero(every[order][1:] == every[order][:-1])
    if len(twice):
        owner = np.repeat(numbers, [len(one) for one in ids])[order]
        first, second = (names[owner[at]] for at in (twice[0], twice[0] + 1))
        raise ProtegeError(
            f"image {every[order][twice[0]]} is both in {first} and in {second} of "
            f"{reader.scores.uri}: delete the one that does not belong there and run again"
        )
