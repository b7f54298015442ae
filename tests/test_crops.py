"""crops: parts of an image, and brighter and darker copies, are found, and other images are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.billion_scale.options import BillionScale
from flows.campaign.find import find_campaign, sources_of
from flows.campaign.run import Run
from flows.noisy_student.options import NoisyStudent
from flows.recipes import BILLION_SCALE, NOISY_STUDENT
from infra.errors import ProtegeError
from infra.executors import Cluster, Inline, Threads
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.crops import show_the_same, windows
from tasks.duplicates.matching import small_picture
from tasks.duplicates.views import DESCRIPTOR_NUMBERS, MIN_COSINE, Views, descriptors_of, luma_of
from tasks.images import Pixels, encode_png
from tasks.inference.model import load_model
from tasks.score import ScoreOptions, score
from tasks.shard import ShardOptions, read_images, shard
from tasks.topk import TopkOptions, topk
from tasks.topk.limits import DEFAULT_LIMITS
from tasks.topk.views import views_of
from tests.builders.campaign import tiny
from tests.builders.models import model
from tests.builders.noisy import tiny_noisy
from tests.builders.photos import jpeg, spectral_photo

CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "a tenth cut off": lambda pixels: pixels[5:-5, 6:-6],
    "a side cut off": lambda pixels: pixels[:, 12:],
    "a corner cut off": lambda pixels: pixels[10:, 13:],
    "20 % brighter": lambda pixels: np.clip(pixels * 1.2, 0, 255).astype(np.uint8),
    "20 % darker": lambda pixels: (pixels * 0.8).astype(np.uint8),
    "stored badly": lambda pixels: jpeg(pixels, 20),
}


def photos(count: int, seed: int = 0) -> list[Pixels]:
    return [spectral_photo(120, 100, seed * 1000 + number) for number in range(count)]


def views(images: list[Pixels]) -> Views:
    """Views whose descriptors are all alike."""
    lumas = [luma_of(small_picture(np.ascontiguousarray(pixels))) for pixels in images]
    data = np.frombuffer(b"".join(lumas), np.uint8).reshape(len(images), -1)
    return Views.of(np.ones((len(images), DESCRIPTOR_NUMBERS), np.int8), data)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_image_shows_the_same(change: Callable[[Pixels], Pixels]) -> None:
    images = photos(60)
    own, rows = views(images), np.arange(60)
    changed = views([change(pixels) for pixels in images])
    assert show_the_same(own, changed, rows, rows).mean() >= 0.95
    assert show_the_same(changed, own, rows, rows).mean() >= 0.95


def test_other_images_do_not_show_the_same() -> None:
    own = views(photos(300))
    rows, columns = np.nonzero(np.triu(own.similar(own), 1))
    assert len(rows) == 300 * 299 / 2
    assert not show_the_same(own, own, rows, columns).any()


def test_image_with_nothing_to_see_shows_nothing() -> None:
    plain = views([np.full((64, 64, 3), level, np.uint8) for level in (0, 128, 255)])
    rows, columns = np.nonzero(np.ones((3, 3)))
    assert not show_the_same(plain, plain, rows, columns).any()


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_cosines_are_those_of_plain_arithmetic_in_any_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=DESCRIPTOR_NUMBERS)
    numbers_NF = np.rint(40 * base + rng.normal(size=(30, DESCRIPTOR_NUMBERS)) * 40 * rng.random())
    numbers_NF = numbers_NF.clip(-127, 127)
    own = Views.of(numbers_NF.astype(np.int8), np.zeros((30, 256), np.uint8))
    flags_NN = own.similar(own)
    lengths_N = np.linalg.norm(numbers_NF, axis=1)
    cosines_NN = numbers_NF @ numbers_NF.T / np.outer(lengths_N, lengths_N)
    clear = np.abs(cosines_NN - MIN_COSINE) > 1e-6
    assert (flags_NN == (cosines_NN >= MIN_COSINE))[clear].all()
    some = own.take(np.arange(7, 19))
    assert (some.similar(own) == flags_NN[7:19]).all()


def test_descriptors_keep_the_angles_of_features() -> None:
    rng = np.random.default_rng(0)
    features_ND = np.maximum(0, rng.normal(0.4, 1, (200, 512))).astype(np.float32)
    features_ND[100:] = features_ND[:100] + rng.normal(0, 0.3, (100, 512))
    unit_ND = features_ND / np.linalg.norm(features_ND, axis=1, keepdims=True)
    numbers_NF = descriptors_of(features_ND).astype(np.float32)
    unit_NF = numbers_NF / np.linalg.norm(numbers_NF, axis=1, keepdims=True)
    assert np.abs(unit_NF @ unit_NF.T - unit_ND @ unit_ND.T).max() < 0.3
    same = (unit_NF[:100] * unit_NF[100:]).sum(axis=1) - (unit_ND[:100] * unit_ND[100:]).sum(axis=1)
    assert np.abs(same).max() < 0.1


@pytest.mark.parametrize("features", [np.zeros(8), np.full(8, np.nan), np.full(8, np.inf)])
def test_features_without_a_direction_are_similar_to_none(
    features: npt.NDArray[np.float64],
) -> None:
    numbers_NF = descriptors_of(features.astype(np.float32)[None])
    own = Views.of(numbers_NF, np.zeros((1, 256), np.uint8))
    assert not own.similar(own).any()


@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("step", [5, 10])
def test_windows_are_weighted_means_and_the_first_is_the_whole_picture(
    side: int, step: int
) -> None:
    firsts, weights = windows(side, tuple(range(100, 79, -step)), step)
    assert len(firsts) == {5: 15, 10: 6}[step]
    assert (weights.sum(axis=2) == 32).all()
    assert (weights >= 0).all()
    assert firsts.min() == 0
    assert firsts.max() + 3 == side
    picture = np.arange(side) ** 2
    whole = (picture[firsts[0][:, None] + np.arange(3)] * weights[0]).sum(axis=1) / 32
    assert np.abs(whole - picture)[1:-1].max() < 2


# ---------------------------------------------------------------------------- the stages together


def write(folder: Path, images: dict[str, Pixels]) -> None:
    folder.mkdir(parents=True)
    for name, pixels in images.items():
        (folder / f"{name}.png").write_bytes(encode_png(np.ascontiguousarray(pixels)))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Output, dict[str, Output]]:
    """The scores of a pile with changed copies of its images, of labelled and of test images."""
    folder = tmp_path_factory.mktemp("crops")
    own, labelled, test = photos(40), photos(10, seed=1), photos(10, seed=2)
    pile = {f"own_{number:02}": pixels for number, pixels in enumerate(own)}
    for number, change in enumerate(CHANGES.values()):
        for name, images in (("own", own), ("labelled", labelled), ("test", test)):
            pile[f"{name}_{number:02}_changed"] = change(images[number])
    write(folder / "pile", pile)
    for name, images in (("labelled", labelled), ("test", test)):
        write(
            folder / name / "class", {f"{number:02}": image for number, image in enumerate(images)}
        )
    root, options = open_store(str(folder / "root")), ScoreOptions(batch_size=16, descriptors=True)
    teacher = model(root)
    sources = {
        name: shard(
            root,
            ShardOptions(source=str(folder / name), labelled=name != "pile", images_per_shard=17),
        )
        for name in ("pile", "labelled", "test")
    }
    known = {name: score(root, sources[name], teacher, options) for name in ("labelled", "test")}
    return root, score(root, sources["pile"], teacher, options), known


def images_to_test(root: Store) -> Output:
    """The test images of the fixture, which are there."""
    source = str(Path(root.uri).parent / "test")
    return shard(root, ShardOptions(source=source, labelled=True, images_per_shard=17))


def expected(scores: Output, known: dict[str, Output]) -> dict[int, list[int]]:
    """What is kept of each class, from the best candidate down, by comparing all with all."""
    table = scores.table("scores")
    own, tables_of_known = views_of(table), [output.table("scores") for output in known.values()]
    kept: dict[int, list[int]] = {}
    ids, labels = table["image_id"].to_pylist(), table["label_0"].to_pylist()
    order = np.lexsort((ids, -table["log_odds_0"].to_numpy())).tolist()
    for row in order:
        before = kept.setdefault(labels[row], [])
        is_known = any(
            same(own, row, views_of(others), number)
            for others in tables_of_known
            for number in range(len(others))
            if labels[row] in [others[f"label_{rank}"][number].as_py() for rank in range(3)]
        )
        if not is_known and not any(same(own, other, own, row) for other in before):
            before.append(row)
    return {label: [ids[row] for row in rows] for label, rows in kept.items()}


def same(first: Views, row: int, second: Views, column: int) -> bool:
    rows, columns = np.array([row]), np.array([column])
    similar = first.take(rows).similar(second.take(columns))[0, 0]
    return bool(similar and show_the_same(first, second, rows, columns)[0])


def test_choice_without_crops_is_the_same_on_a_cluster_and_for_any_groups(
    scored: tuple[Store, Output, dict[str, Output]], cluster: Cluster
) -> None:
    root, scores, known = scored
    digests = set()
    for executor in (Inline(), Threads(2), cluster):
        for views_per_group in (1, 30, 4_000_000):
            other = open_store(f"{root.uri}/{type(executor).__name__}-{views_per_group}")
            limits = replace(DEFAULT_LIMITS, views_per_group=views_per_group, rows_per_range=30)
            options = TopkOptions(k=100, top_p=2, drop_crops=True)
            chosen = topk(
                other, scores, options, known_scores=known, limits=limits, executor=executor
            )
            digests.add(chosen.digest)
    assert len(digests) == 1


def test_crops_of_better_and_of_known_images_are_not_chosen(
    scored: tuple[Store, Output, dict[str, Output]],
) -> None:
    root, scores, known = scored
    chosen = topk(
        root,
        scores,
        TopkOptions(k=100, top_p=1, drop_crops=True),
        known_scores=known,
    )
    rows, classes = chosen.table("chosen").to_pylist(), chosen.table("classes").to_pylist()
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row["image_id"])
    assert found
    for row in classes:
        dropped = sum(
            row[f"dropped_{reason}"] for reason in ("near_duplicates", "labelled", "test")
        )
        assert row["kept"] + dropped == row["candidates"]
    assert sum(row["dropped_labelled"] for row in classes) >= 3
    assert sum(row["dropped_test"] for row in classes) >= 3
    assert sum(row["dropped_near_duplicates"] for row in classes) >= 3
    assert chosen.kept < scores.kept - 10
    # Some that a comparison of all with all keeps were dropped as near-duplicates before.
    all_pairs = expected(scores, known)
    for label, ids in found.items():
        assert set(ids) <= set(all_pairs[label])


def test_without_the_option_nothing_changes(
    scored: tuple[Store, Output, dict[str, Output]],
) -> None:
    root, scores, known = scored
    plain = topk(root, scores, TopkOptions(k=100, top_p=1))
    given = topk(root, scores, TopkOptions(k=100, top_p=1), known_scores=known)
    assert given.reused
    assert given.digest == plain.digest


def test_views_are_those_of_the_images(scored: tuple[Store, Output, dict[str, Output]]) -> None:
    root, _scores, known = scored
    loaded, table = load_model(model(root)), known["test"].table("scores")
    for (_, data), row in zip(read_images(images_to_test(root), 0), table.to_pylist()):
        feature_D = loaded.features(loaded.decode(data).copy()[None])[0].numpy()
        descriptor, luma = tables.VIEW
        expected_F = descriptors_of(feature_D[None])[0].astype(int)
        assert np.abs(np.frombuffer(row[descriptor], np.int8) - expected_F).max() <= 1
        assert len(row[luma]) == 256


def test_scores_without_descriptors_or_of_another_teacher_are_refused(
    scored: tuple[Store, Output, dict[str, Output]],
) -> None:
    root, scores, _ = scored
    images, options = images_to_test(root), TopkOptions(k=5, top_p=1, drop_crops=True)
    without = score(root, images, model(root), ScoreOptions(batch_size=16))
    with pytest.raises(ProtegeError, match=r"score\.descriptors=true"):
        topk(root, scores, options, known_scores={"test": without})
    with pytest.raises(ProtegeError, match=r"score\.descriptors=true"):
        topk(root, without, options)
    other = model(root, seed=1)
    others = score(root, images, other, ScoreOptions(batch_size=16, descriptors=True))
    with pytest.raises(ProtegeError, match="another teacher"):
        topk(root, scores, options, known_scores={"test": others})


def test_pictures_that_all_look_alike_are_an_error_with_the_remedy(tmp_path: Path) -> None:
    """Small grey pictures of goods, whose outlines are one."""
    rng, base = np.random.default_rng(0), spectral_photo(28, 28, 0)
    for name in ("pile", "labelled"):
        noisy = [base + rng.normal(0, 12, base.shape) for _ in range(20)]
        images = {
            str(number): image.clip(0, 255).astype(np.uint8) for number, image in enumerate(noisy)
        }
        write(tmp_path / name / "goods", images)
    root, options = open_store(str(tmp_path / "root")), ScoreOptions(descriptors=True)
    scores = [
        score(root, shard(root, ShardOptions(source=str(tmp_path / name))), model(root), options)
        for name in ("pile", "labelled")
    ]
    with pytest.raises(ProtegeError, match=r"pairs of labelled images, .*topk\.drop_crops=false"):
        topk(
            root,
            scores[0],
            TopkOptions(k=5, top_p=1, drop_crops=True),
            known_scores={"labelled": scores[1]},
        )


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="drop_near_duplicates=true"):
        TopkOptions(drop_crops=True, drop_near_duplicates=False)
    with pytest.raises(ValidationError, match=r"score\.descriptors=true"):
        BillionScale.model_validate({"topk": {"drop_crops": True}})


@pytest.mark.parametrize("name", ["billion-scale", "noisy-student"])
def test_recipe_scores_the_known_images_by_the_teacher_of_the_choice(
    root: Store, pictures: Path, name: str
) -> None:
    recipe, suffixes = BILLION_SCALE, [""]
    options: BillionScale | NoisyStudent = tiny(pictures)
    if name == "noisy-student":
        recipe, options, suffixes = NOISY_STUDENT, tiny_noisy(pictures), ["_1", "_2"]
    changed = {
        "score": options.score.model_copy(update={"descriptors": True, "embeddings": True}),
        "topk": options.topk.model_copy(update={"drop_near_duplicates": True, "drop_crops": True}),
    }
    options = type(options).model_validate({**dict(options), **changed})
    campaign = find_campaign(root, recipe.name, options, sources_of(options))
    run = Run(root, Inline(), campaign=campaign)
    recipe.run(run, options)
    outputs = run.campaign.outputs
    for suffix in suffixes:
        chosen, scores = outputs[f"topk{suffix}"], outputs[f"score{suffix}"]
        inputs = contract.output_at(f"{root.uri}/topk/{chosen.fingerprint}").body["inputs"]
        for known in ("labelled", "test"):
            found = outputs[f"{known}_scores{suffix}"]
            assert inputs[f"{known}_scores"]["fingerprint"] == found.fingerprint
            assert found.body["inputs"]["teacher"] == scores.body["inputs"]["teacher"]
