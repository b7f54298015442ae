"""Score tables: small outputs of `score` with given rows, and the choice by brute force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, RowCounts
from tasks.duplicates.matching import THUMBNAIL, Thumbnails, near
from tasks.score import scores_table
from tasks.topk import TopkOptions, hash_ids


@dataclass(frozen=True)
class Row:
    """An image: its P best classes with their log-odds, best first, and those of its tags."""

    image_id: int
    labels: Sequence[int]
    log_odds: Sequence[float]
    tags: Mapping[int, float] = field(default_factory=dict)
    picture: int = -1
    """What it shows (`signature_of`); -1 is like no other."""


def scores_of(root: Store, parts: Sequence[Sequence[Row]], classes: int, top_p: int) -> Output:
    """A finished `scores` output with these rows."""
    store = open_store(f"{root.uri}/score/{contract.digest_of(repr(parts))}")
    receipts = []
    for number, rows in enumerate(parts):
        counts = RowCounts(len(rows), len(rows), 0)
        name, layout = contract.part_name(number), tables.scores_layout(top_p)
        table = _table(rows, top_p)
        receipts.append(contract.write_part(store, name, table, counts, layout=layout))
    names = [f"class-{label}" for label in range(classes)]
    extra = {"classes": names, "top_p": top_p}
    return contract.publish(store, Manifest("score", "f", {}, {}, receipts, 0.0, extra))


def _table(rows: Sequence[Row], top_p: int) -> pa.Table:
    shape = (len(rows), top_p)
    return scores_table(
        np.array([row.image_id for row in rows], np.int64),
        np.array([row.labels for row in rows], np.uint16).reshape(shape),
        np.array([row.log_odds for row in rows], np.float32).reshape(shape),
        [
            pa.array([list(row.tags) for row in rows], pa.list_(pa.uint16())),
            pa.array([list(row.tags.values()) for row in rows], pa.list_(pa.float32())),
        ],
        signatures([picture_of(row) for row in rows]),
    )


def picture_of(row: Row) -> int:
    """The number of its picture."""
    return row.picture if row.picture >= 0 else 2**40 + 4 * row.image_id


def signature_of(picture: int) -> tuple[int, npt.NDArray[np.uint8]]:
    """Hash and thumbnail of a picture. Neighbours, four by four, are nearly the same.

    The second is a copy of the first and of the third, which is none of the first; the hash of the
    fourth is too far from all of them.
    """
    group, variant = divmod(picture, 4)
    phash = (
        int(hash_ids(np.array([group], np.int64), 1)[0]) ^ (0, 0b11, 0b1100 << 20, 0x3FF)[variant]
    )
    noise = np.random.default_rng(group).integers(60, 200, THUMBNAIL)
    step = 0.08 * noise.std()
    return phash, np.rint(noise + (0, step, 2 * step, 0)[variant]).astype(np.uint8)


def signatures(pictures: Sequence[int]) -> list[pa.Array]:
    """The columns of the signatures of pictures."""
    found = [signature_of(picture) for picture in pictures]
    phashes = np.array([phash for phash, _ in found], np.uint64)
    return [
        pa.array(phashes),
        pa.array([thumbnail.tobytes() for _, thumbnail in found], pa.binary(THUMBNAIL)),
    ]


def are_copies(first: int, second: int) -> bool:
    """Whether two pictures are told to be copies."""
    (phash, thumbnail), (other, theirs) = signature_of(first), signature_of(second)
    hashes = np.array([phash], np.uint64), np.array([other], np.uint64)
    close = Thumbnails.of(thumbnail[None]).alike(Thumbnails.of(theirs[None]))
    return bool(near(*hashes)[0] and close[0])


def known_of(root: Store, pictures: Sequence[int]) -> Output:
    """A finished output of `signature` of these pictures, in parts of two."""
    store = open_store(f"{root.uri}/signature/{contract.digest_of(list(pictures))}")
    receipts = []
    for number, first in enumerate(range(0, len(pictures), 2)):
        few = pictures[first : first + 2]
        columns = [pa.array(range(first, first + len(few)), pa.int64()), *signatures(few)]
        table = pa.Table.from_arrays(columns, schema=tables.SIGNATURES)
        counts = RowCounts(len(few), len(few), 0)
        receipts.append(contract.write_part(store, contract.part_name(number), table, counts))
    return contract.publish(store, Manifest("signature", "f", {}, {}, receipts, 0.0))


def no_tags(images: int) -> list[pa.Array]:
    """The two columns of images without tags."""
    offsets = np.zeros(images + 1, np.int32)
    kinds = (pa.uint16(), pa.float32())
    return [pa.ListArray.from_arrays(offsets, pa.array([], kind)) for kind in kinds]


def random_rows(count: int, classes: int, top_p: int, seed: int) -> list[Row]:
    """Rows with many ties, some of them tagged, some of them copies."""
    rng = np.random.default_rng(seed)
    rows = []
    for image_id in range(count):
        labels = rng.permutation(classes)[:top_p].tolist()
        log_odds = np.sort(rng.integers(-8, 8, top_p) / 2)[::-1].tolist()
        tags = {label: float(rng.integers(-9, 9)) for label in range(image_id % 3)}
        # Of four neighbours, two or three show the same.
        picture = 4 * (image_id // 4) + image_id % 2 if image_id % 3 else -1
        rows.append(Row(image_id, labels, log_odds, tags, picture))
    return rows


# label, rank, image_id, copies
Chosen = tuple[int, int, int, int]


def brute_force(
    rows: Sequence[Row], classes: int, options: TopkOptions, known: Mapping[str, Sequence[int]]
) -> tuple[list[Chosen], list[dict[str, int]]]:
    """What the options choose, from a sorted list of all candidates, and what copies they leave."""
    pictures = {row.image_id: picture_of(row) for row in rows}
    pairs = [
        (np.float32(log_odds) + np.float32(0), label, row.image_id)
        for row in rows
        if not np.isnan(_scores(row, options)).any()
        for label, log_odds in _candidates(row, options)
    ]

    def order(pair: tuple[np.float32, int, int]) -> tuple[float, int, int]:
        log_odds, label, image_id = pair
        if options.random:
            drawn = hash_ids(np.array([image_id]), options.seed) >> np.uint64(40)
            return (-float(drawn[0]), label, image_id)
        return (-float(log_odds), label, image_id)

    chosen: list[list[tuple[np.float32, int, int]]] = [[] for _ in range(classes)]
    left_out = [dict.fromkeys(("near_duplicates", "labelled", "test"), 0) for _ in range(classes)]
    there: dict[int, list[int]] = {}
    for pair in sorted(pairs, key=order):
        _, label, image_id = pair
        picture = pictures[image_id]
        kept = sum(map(len, chosen)) if options.together else len(chosen[label])
        if kept == options.k * (classes if options.together else 1):
            continue
        why = next((name for name in ("test", "labelled") if _any(picture, known.get(name))), "")
        why = why or ("near_duplicates" if _any(picture, there.get(label)) else "")
        if why and options.drop_near_duplicates:
            left_out[label][why] += 1
            continue
        there.setdefault(label, []).append(picture)
        chosen[label].append(pair)
    found = []
    for label, mine in enumerate(chosen):
        for rank, (_, _, image_id) in enumerate(sorted(mine, key=_by_score)):
            copies = 1
            if options.mode == "threshold_balance":
                copies = options.k // len(mine) + (rank < options.k % len(mine))
            found.append((label, rank, image_id, copies))
    return found, left_out


def _any(picture: int, others: Sequence[int] | None) -> bool:
    return any(are_copies(picture, other) for other in others or ())


def _by_score(pair: tuple[np.float32, int, int]) -> tuple[float, int]:
    return (-float(pair[0]), pair[2])


def _scores(row: Row, options: TopkOptions) -> Sequence[float]:
    if options.by_tag:
        return list(row.tags.values())
    return row.log_odds[: options.width(len(row.log_odds))]


def _candidates(row: Row, options: TopkOptions) -> list[tuple[int, float]]:
    if options.by_tag:
        return list(row.tags.items())
    some = list(zip(row.labels, row.log_odds, strict=True))[: options.width(len(row.labels))]
    if options.mode != "threshold_balance":
        return some
    least = np.log(options.threshold / (1 - options.threshold))
    return [(label, value) for label, value in some if value > least]
