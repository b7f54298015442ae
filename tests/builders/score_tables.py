"""Score tables: small outputs of `score` with given rows, and the choice by brute force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, Output, RowCounts
from tasks.duplicates.matching import THUMBNAIL_BYTES, Thumbnails, near
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
    """The picture that it shows (`signature_of`); -1 resembles no other."""


def scores_of(root: Store, parts: Sequence[Sequence[Row]], classes: int, top_p: int) -> Output:
    """A finished `scores` output with these rows."""
    store = open_store(f"{root.uri}/score/{contract.digest_of(repr(parts))}")
    receipts = []
    for number, rows in enumerate(parts):
        counts = RowCounts(len(rows), len(rows), 0)
        name, layout = contract.part_name(number), tables.scores_layout(tables.scores(top_p))
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
    """Hash and thumbnail of a picture. Four pictures in succession are nearly the same.

    The second is a near-duplicate of the first and of the third, but the third is not one of the
    first; the hash of the fourth is too far from all of them.
    """
    group, variant = divmod(picture, 4)
    changed_bits = (0, 0b11, 0b1100 << 20, 0x3FF)[variant]
    phash = int(hash_ids(np.array([group], np.int64), 1)[0]) ^ changed_bits
    noise = np.random.default_rng(group).integers(60, 200, THUMBNAIL_BYTES)
    step = 0.08 * noise.std()
    return phash, np.rint(noise + (0, step, 2 * step, 0)[variant]).astype(np.uint8)


def signatures(pictures: Sequence[int]) -> list[pa.Array]:
    """The columns of the signatures of pictures."""
    pairs = [signature_of(picture) for picture in pictures]
    thumbnails = [thumbnail.tobytes() for _, thumbnail in pairs]
    return [
        pa.array(np.array([phash for phash, _ in pairs], np.uint64)),
        pa.array(thumbnails, pa.binary(THUMBNAIL_BYTES)),
    ]


def are_near_duplicates(first: int, second: int) -> bool:
    """Whether two pictures count as near-duplicates."""
    first_phash, first_thumbnail = signature_of(first)
    second_phash, second_thumbnail = signature_of(second)
    hashes_near = near(np.array([first_phash], np.uint64), np.array([second_phash], np.uint64))
    first_thumbnails = Thumbnails.of(first_thumbnail[None])
    thumbnails_agree = first_thumbnails.agree(Thumbnails.of(second_thumbnail[None]))
    return bool(hashes_near[0] and thumbnails_agree[0])


def signatures_of(root: Store, pictures: Sequence[int]) -> Output:
    """A finished output of `signature` of these pictures, in parts of two."""
    store = open_store(f"{root.uri}/signature/{contract.digest_of(list(pictures))}")
    receipts = []
    for number, first in enumerate(range(0, len(pictures), 2)):
        image_ids = range(first, min(first + 2, len(pictures)))
        columns = [pa.array(image_ids, pa.int64()), *signatures(pictures[first : first + 2])]
        table = pa.Table.from_arrays(columns, schema=tables.SIGNATURES)
        counts = RowCounts(len(table), len(table), 0)
        receipts.append(contract.write_part(store, contract.part_name(number), table, counts))
    return contract.publish(store, Manifest("signature", "f", {}, {}, receipts, 0.0))


def no_tags(images: int) -> list[pa.Array]:
    """The two columns of images without tags."""
    offsets = np.zeros(images + 1, np.int32)
    types = (pa.uint16(), pa.float32())
    return [pa.ListArray.from_arrays(offsets, pa.array([], item_type)) for item_type in types]


def random_rows(count: int, classes: int, top_p: int, seed: int) -> list[Row]:
    """Rows with many ties, of which some have tags and some are near-duplicates."""
    rng = np.random.default_rng(seed)
    rows = []
    for image_id in range(count):
        labels = rng.permutation(classes)[:top_p].tolist()
        log_odds = np.sort(rng.integers(-8, 8, top_p) / 2)[::-1].tolist()
        tags = {label: float(rng.integers(-9, 9)) for label in range(image_id % 3)}
        # Of four images in succession, two or three show the same.
        picture = 4 * (image_id // 4) + image_id % 2 if image_id % 3 else -1
        rows.append(Row(image_id, labels, log_odds, tags, picture))
    return rows


# label, rank, image_id, repeats
Chosen = tuple[int, int, int, int]


def brute_force(
    rows: Sequence[Row], classes: int, options: TopkOptions, exclude: Mapping[str, Sequence[int]]
) -> tuple[list[Chosen], list[dict[str, int]]]:
    """The chosen rows, from a sorted list of all candidates; how many were dropped, by reason."""
    pictures = {row.image_id: picture_of(row) for row in rows}
    pairs = [
        (np.float32(log_odds) + np.float32(0), label, row.image_id)
        for row in rows
        if not np.isnan(_scores(row, options)).any()
        for label, log_odds in _candidates(row, options)
    ]

    def order(pair: tuple[np.float32, int, int]) -> tuple[float, int, int]:
        log_odds, label, image_id = pair
        if options.rules.random:
            random_value = hash_ids(np.array([image_id]), options.seed) >> np.uint64(40)
            return (-float(random_value[0]), label, image_id)
        return (-float(log_odds), label, image_id)

    chosen: list[list[tuple[np.float32, int, int]]] = [[] for _ in range(classes)]
    dropped = [dict.fromkeys(("near_duplicates", "labelled", "test"), 0) for _ in range(classes)]
    kept_pictures: dict[int, list[int]] = {}
    for pair in sorted(pairs, key=order):
        _, label, image_id = pair
        picture = pictures[image_id]
        kept = sum(map(len, chosen)) if options.rules.across_classes else len(chosen[label])
        if kept == options.k * (classes if options.rules.across_classes else 1):
            continue
        pictures_of = {**exclude, "near_duplicates": kept_pictures.get(label, [])}
        reasons = ("test", "labelled", "near_duplicates")
        reason = next((name for name in reasons if _any(picture, pictures_of.get(name))), "")
        if reason and options.drop_near_duplicates:
            dropped[label][reason] += 1
            continue
        kept_pictures.setdefault(label, []).append(picture)
        chosen[label].append(pair)
    return _with_ranks(chosen, options), dropped


def _with_ranks(
    chosen: Sequence[Sequence[tuple[np.float32, int, int]]], options: TopkOptions
) -> list[Chosen]:
    rows = []
    for label, pairs in enumerate(chosen):
        for rank, (_, _, image_id) in enumerate(sorted(pairs, key=_by_score)):
            repeats = 1
            if options.mode == "threshold_balance":
                repeats = options.k // len(pairs) + (rank < options.k % len(pairs))
            rows.append((label, rank, image_id, repeats))
    return rows


def _any(picture: int, others: Sequence[int] | None) -> bool:
    return any(are_near_duplicates(picture, other) for other in others or ())


def _by_score(pair: tuple[np.float32, int, int]) -> tuple[float, int]:
    return (-float(pair[0]), pair[2])


def _scores(row: Row, options: TopkOptions) -> Sequence[float]:
    if options.rules.by_tag:
        return list(row.tags.values())
    return row.log_odds[: options.width(len(row.log_odds))]


def _candidates(row: Row, options: TopkOptions) -> list[tuple[int, float]]:
    if options.rules.by_tag:
        return list(row.tags.items())
    pairs = list(zip(row.labels, row.log_odds, strict=True))[: options.width(len(row.labels))]
    if options.mode != "threshold_balance":
        return pairs
    bound = np.log(options.threshold / (1 - options.threshold))
    return [(label, log_odds) for label, log_odds in pairs if log_odds > bound]
