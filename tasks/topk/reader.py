"""Reader: the columns of a part of `scores` that are needed, checked.

In: the name of a part. Out: its images, and their pairs with classes: for each rank among the P
best classes, or for the tags. Columns that are not needed are not read.
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
from tasks.topk.limits import Limits
from tasks.topk.options import TopkOptions
from tasks.topk.order import Ids, Labels, Positions, Values

PartName = tuple[int, str]  # the number of a part in the manifest, and its name

# Labels, log-odds, and the rows of the part that they belong to.
Pairs = tuple[Labels, Values, Positions | slice]


@dataclass(frozen=True)
class Reader:
    """Reads parts of an output of `score`. Every task gets it, so it has no list of the parts."""

    scores: Output
    scored_p: int
    num_classes: int
    num_parts: int
    options: TopkOptions
    schema: pa.Schema

    def parts(self, names: Sequence[PartName], limits: Limits) -> Iterator["Part"]:
        """These parts; the next ones are read while the caller works on a part."""
        rows_per_part = max(1, self.scores.kept // max(1, self.num_parts))
        ahead = max(limits.min_prefetch_parts, limits.prefetch_rows // rows_per_part)
        ahead = min(limits.max_prefetch_parts, ahead)
        with ThreadPoolExecutor(ahead) as pool:
            futures = [pool.submit(self.part, name) for name in names[:ahead]]
            for position in range(len(names)):
                part = futures.pop(0).result()
                if position + ahead < len(names):
                    futures.append(pool.submit(self.part, names[position + ahead]))
                yield part

    def part(self, numbered_name: PartName) -> "Part":
        """A part. Raises ProtegeError with its name when it is damaged."""
        number, name = numbered_name
        width = 0 if self.options.rules.by_tag else self.options.width(self.scored_p)
        columns = [column for rank in range(width) for column in tables.score_columns(rank)]
        columns = columns or list(tables.TAGGED)
        if self.options.drop_near_duplicates:
            columns.append("phash")
        table = contract.read_part(self.scores.store, name, self.schema, ["image_id", *columns])
        part = Part(number, _column(table, "image_id"), table, width)
        self._check(part, f"{self.scores.uri}/{name}")
        return part

    def ids(self, name: str) -> Ids:
        """The image_ids of a part."""
        table = contract.read_part(self.scores.store, name, self.schema, ["image_id"])
        return _column(table, "image_id")

    def signatures(self, name: str, ids: Ids) -> "Signatures":
        """The signatures of those of these images that are in a part."""
        columns = ["image_id", "phash", "thumbnail"]
        table = contract.read_part(self.scores.store, name, self.schema, columns, only=ids)
        return Signatures(_column(table, "image_id"), _column(table, "phash"), thumbnails_of(table))

    def _check(self, part: "Part", address: str) -> None:
        ids_N = part.image_ids_N
        if (ids_N[1:] <= ids_N[:-1]).any():
            sorted_N = np.sort(ids_N)
            repeated = sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]
            if len(repeated):
                raise ProtegeError(
                    f"{address} has image {repeated[0]} twice: delete it and run again"
                )
        for labels_M, _, _ in part.all_pairs():
            if len(labels_M) and labels_M.max() >= self.num_classes:
                raise ProtegeError(
                    f"{address} has a class {labels_M.max()} of {self.num_classes}: delete it and "
                    "run again"
                )


@dataclass(frozen=True)
class Signatures:
    """Hashes and thumbnails of images, by which near-duplicates are found."""

    image_ids_N: Ids
    phashes_N: Hashes
    thumbnails_NT: npt.NDArray[np.uint8]

    def take(self, positions: Positions) -> "Signatures":
        """The signatures at these positions."""
        return Signatures(
            self.image_ids_N[positions], self.phashes_N[positions], self.thumbnails_NT[positions]
        )


@dataclass(frozen=True)
class Part:
    """The columns that were read of a part of `scores`."""

    number: int
    image_ids_N: Ids
    table: pa.Table
    width: int

    @property
    def not_finite(self) -> npt.NDArray[np.bool_]:
        """Which images have a score that is not a number, shape (N,)."""
        not_finite_N = np.zeros(len(self.image_ids_N), bool)
        for _, log_odds_M, rows in self.all_pairs():
            # The maximum is NaN if any value is, and it is faster than a test of every value.
            if len(log_odds_M) and np.isnan(log_odds_M.max()):
                all_rows = np.arange(len(not_finite_N))[rows]
                not_finite_N[all_rows[np.isnan(log_odds_M)]] = True
        return not_finite_N

    @property
    def phashes(self) -> Hashes | None:
        """The perceptual hashes of the images, shape (N,), if they were read."""
        return _column(self.table, "phash") if "phash" in self.table.column_names else None

    def pairs(
        self,
        not_finite_N: npt.NDArray[np.bool_],
        min_log_odds: np.float32,
        class_filter: range | None,
    ) -> Iterator[Pairs]:
        """The pairs of finite images, with at least these log-odds, of these classes or of all.

        With a filter, the first of its classes has the label 0 in what is returned.
        """
        all_finite = not not_finite_N.any()
        for labels_M, log_odds_M, rows in self.all_pairs():
            if all_finite and min_log_odds == -np.inf and class_filter is None:
                yield labels_M, log_odds_M, rows
                continue
            all_rows = np.arange(len(not_finite_N))[rows]
            wanted_M = ~not_finite_N[all_rows] & (log_odds_M >= min_log_odds)
            first = class_filter.start if class_filter else 0
            if class_filter:
                wanted_M &= (labels_M >= first) & (labels_M < class_filter.stop)
            positions = np.flatnonzero(wanted_M)
            labels = labels_M[positions] - np.uint16(first)
            yield labels, log_odds_M[positions], all_rows[positions]

    def all_pairs(self) -> Iterator[Pairs]:
        """The pairs rank by rank, or those of the tags."""
        for rank in range(self.width):
            labels, log_odds = tables.score_columns(rank)
            yield _column(self.table, labels), _column(self.table, log_odds), slice(None)
        if not self.width:
            labels, log_odds = tables.TAGGED
            tags_per_image_N = self.table[labels].combine_chunks().value_lengths().to_numpy()
            rows = np.repeat(np.arange(len(tags_per_image_N)), tags_per_image_N)
            yield _list_items(self.table, labels), _list_items(self.table, log_odds), rows


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].to_numpy()
    return values


def _list_items(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].combine_chunks().flatten().to_numpy()
    return values


def thumbnails_of(table: pa.Table) -> npt.NDArray[np.uint8]:
    """The column of the thumbnails, shape (N, bytes)."""
    return bytes_of(table, "thumbnail", THUMBNAIL_BYTES)


def bytes_of(table: pa.Table, name: str, width: int) -> npt.NDArray[np.uint8]:
    """A column of so many bytes each, shape (N, width)."""
    values = table[name].combine_chunks()
    data = np.frombuffer(values.buffers()[1] or b"", np.uint8).reshape(-1, width)
    return data[values.offset : values.offset + len(values)]


def check_ids(reader: Reader, names: Sequence[str], spans_S3: npt.NDArray[np.int64]) -> None:
    """Raise ProtegeError with the names of both parts when an image is in two parts.

    `spans_S3` has the number and the lowest and highest image_id of each part. Only parts whose
    ranges of ids overlap are read; in the scores of one pile, no ranges do.
    """
    spans_S3 = spans_S3[np.argsort(spans_S3[:, 1], kind="stable")]
    overlaps = spans_S3[1:, 1] <= np.maximum.accumulate(spans_S3[:, 2])[:-1]
    if not overlaps.any():
        return
    overlapping = np.flatnonzero(np.append(overlaps, False) | np.append(False, overlaps))
    numbers = spans_S3[overlapping, 0].tolist()
    ids_of_parts = [reader.ids(names[number]) for number in numbers]
    ids = np.concatenate(ids_of_parts)
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeated):
        part_numbers = np.repeat(numbers, [len(part_ids) for part_ids in ids_of_parts])[order]
        first, second = (names[part_numbers[repeated[0] + offset]] for offset in (0, 1))
        raise ProtegeError(
            f"image {ids[order][repeated[0]]} is both in {first} and in {second} of "
            f"{reader.scores.uri}: delete the one that does not belong there and run again"
        )
