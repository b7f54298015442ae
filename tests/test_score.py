"""score: every image alike, whatever its shard, its neighbours and the worker."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from infra.errors import ProtegeError
from infra.executors import Cluster, Executor, Failures, Inline
from infra.store import Store, open_store
from models.pixels import channels_last
from models.registry import build
from tasks import contract, tables
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.images import Inputs, encode_png
from tasks.inference.model import Model, load_model
from tasks.inference.weights import WEIGHTS, Description, read_description
from tasks.score import ScoreOptions, score
from tasks.shard import ShardOptions, read_images, shard
from tasks.topk import TopkOptions, topk
from tests.builders.models import CLASSES, model
from tests.builders.pictures import write_folder


def by_key(
    root: Store, pictures: Path, images_per_shard: int, executor: Executor = Inline()
) -> dict[str, bytes]:
    """Log-odds of every image of the pile, by its key, as raw bytes."""
    options = ShardOptions(source=str(pictures / "pile"), images_per_shard=images_per_shard)
    images = shard(root, options, executor=executor)
    scores = score(root, images, model(root), ScoreOptions(batch_size=8), executor=executor)
    found = {}
    for name in contract.part_names(scores):
        keys = contract.read_part(images.store, name, tables.IMAGES, ["image_id", "key"])
        rows = contract.read_part(scores.store, name, tables.scores(3))
        assert rows["image_id"].to_pylist() == keys["image_id"].to_pylist()
        for key, row in zip(keys["key"].to_pylist(), log_odds_of(rows)):
            found[key] = np.array(row, np.float32).tobytes()
    return found


def log_odds_of(table: pa.Table) -> list[list[float]]:
    """The log-odds of each image, best first."""
    columns = [table[tables.score_columns(rank)[1]].to_pylist() for rank in range(3)]
    return [list(row) for row in zip(*columns)]


def test_scores_are_the_same_bit_by_bit_for_any_shard_size(root: Store, pictures: Path) -> None:
    sizes = [by_key(root, pictures, images_per_shard=size) for size in (7, 13, 60)]
    assert len(sizes[0]) == 60
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize("num_classes", [2, 3, 4, 10])
def test_logits_of_an_image_do_not_depend_on_its_place_in_the_batch(num_classes: int) -> None:
    classes = tuple(f"class {number}" for number in range(num_classes))
    description = Description("small_resnet_8", classes, Inputs(size=16, resize=16))
    network = channels_last(build(description.model, num_classes).eval())
    image_1HWC = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    for rows in (*range(1, 20), 256):
        batch_BHWC = np.repeat(image_1HWC, rows, axis=0)
        logits_BC = Model(network, description, torch.device("cpu")).logits(batch_BHWC)
        assert torch.equal(logits_BC, logits_BC[:1].expand(rows, -1)), rows


def test_scores_are_the_same_on_a_cluster(tmp_path: Path, pictures: Path, cluster: Cluster) -> None:
    here = by_key(open_store(str(tmp_path / "a")), pictures, 11)
    there = by_key(open_store(str(tmp_path / "b")), pictures, 11, cluster)
    assert here == there


def test_image_that_cannot_be_decoded_is_a_reject_and_disturbs_no_other(
    tmp_path: Path, pictures: Path
) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "pile"
    paths = sorted(write_folder(folder, rng, per_class=8, labelled=False))
    whole = paths[5].read_bytes()
    clean = _scores(open_store(str(tmp_path / "clean")), folder)
    paths[5].write_bytes(whole[: len(whole) // 2])
    output, damaged = _scores(open_store(str(tmp_path / "damaged")), folder, max_reject_percent=50)
    assert (output.rows_in, output.kept, output.rejected) == (24, 23, 1)
    assert damaged == {key: value for key, value in clean[1].items() if key != 5}
    rejects = pq.read_table(Path(output.uri) / "rejects-00000.parquet")
    assert rejects["reason"].to_pylist() == ["damaged"]


def _scores(root: Store, folder: Path, **limits: float) -> tuple[Output, dict[int, list[float]]]:
    images = shard(root, ShardOptions(source=str(folder), verify="header"))
    options = ScoreOptions(batch_size=4, **limits)
    output = score(root, images, model(root), options)
    table = contract.read_rows(output, tables.scores(3))
    return output, dict(zip(table["image_id"].to_pylist(), log_odds_of(table)))


def test_too_many_rejects_fail_the_stage_with_the_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "pile"
    for path in write_folder(folder, np.random.default_rng(0), per_class=4, labelled=False)[:6]:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ProtegeError, match=r"6 of 12 images .*6 damaged.*max_reject_percent"):
        _scores(open_store(str(tmp_path / "root")), folder)


def test_scores_that_are_not_finite_are_rejected_and_never_ranked(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile")))
    options = ScoreOptions(max_reject_percent=100)
    output = score(root, images, model(root, spoil=True), options)
    assert (output.kept, output.rejected) == (0, 60)


def test_other_weights_are_other_scores_and_the_same_weights_are_not_scored_again(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile")))
    first = score(root, images, model(root, seed=0), ScoreOptions())
    other = score(root, images, model(root, seed=1), ScoreOptions())
    again = score(root, images, model(root, seed=0), ScoreOptions())
    assert first.fingerprint != other.fingerprint
    assert again.reused
    assert again.digest == first.digest


def test_weights_file_names_its_classes(root: Store) -> None:
    data = model(root).store.read(WEIGHTS)
    assert read_description(data).classes == CLASSES
    assert len(safetensors.torch.load(data)["fc.bias"]) == len(CLASSES)


def test_weights_that_are_not_those_that_were_published_score_nothing(
    root: Store, pictures: Path
) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile")))
    teacher = model(root)
    data = teacher.store.read(WEIGHTS)
    teacher.store.replace(WEIGHTS, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Failures, match=rf"{WEIGHTS} is damaged.*Delete this file and run again"):
        score(root, images, teacher, ScoreOptions(batch_size=8))


def test_flip_is_the_mean_of_an_image_and_its_mirror_image(root: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    found = []
    for name, image in (("in", pixels), ("mirrored", pixels[:, ::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(encode_png(np.ascontiguousarray(image)))
        images = shard(root, ShardOptions(source=str(tmp_path / name)))
        teacher = model(root)
        for flip in (False, True):
            table = score(root, images, teacher, ScoreOptions(flip=flip)).table("scores")
            found.append(np.array(log_odds_of(table)[0]))
    plain, averaged, mirrored_plain, mirrored_averaged = found
    assert not np.allclose(plain, mirrored_plain, atol=1e-4)
    assert not np.allclose(averaged, plain, atol=1e-4)
    np.testing.assert_allclose(averaged, mirrored_averaged, atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_embeddings_are_the_features_of_length_1(root: Store, pictures: Path, flip: bool) -> None:
    source, teacher = str(pictures / "pile"), model(root)
    images = shard(root, ShardOptions(source=source, images_per_shard=17))
    plain = score(root, images, teacher, ScoreOptions(batch_size=8, flip=flip)).table("scores")
    options = ScoreOptions(batch_size=8, flip=flip, embeddings=True)
    scores = score(root, images, teacher, options)
    table = scores.table("scores")
    assert table.drop_columns(["embedding"]).equals(plain)
    loaded = load_model(teacher)
    for (_, data), row in zip(read_images(images, 0), table.to_pylist()):
        pixels_HWC = loaded.decode(data).copy()
        both = [pixels_HWC, np.ascontiguousarray(pixels_HWC[:, ::-1])][: 1 + flip]
        feature_D = sum(loaded.features(pixels[None])[0].numpy() for pixels in both)
        found_D = np.frombuffer(row["embedding"], "<f2")
        assert len(found_D) == loaded.num_features
        np.testing.assert_allclose(found_D, feature_D / np.linalg.norm(feature_D), atol=1e-3)
    chosen = topk(root, scores, TopkOptions(k=5, top_p=2))
    without = topk(root, score(root, images, teacher, ScoreOptions()), TopkOptions(k=5, top_p=2))
    if not flip:
        assert chosen.table("chosen").equals(without.table("chosen"))
    softly = GatherOptions(pseudo_labels="soft")
    assert gather(root, images, chosen, softly, scores=scores).kept == chosen.kept


def test_logits_of_several_teachers_are_averaged(root: Store, pictures: Path) -> None:
    images = shard(root, ShardOptions(source=str(pictures / "pile")))
    teachers = [model(root, seed=seed) for seed in (0, 1)]
    options = ScoreOptions(batch_size=8, embeddings=True)
    averaged = score(root, images, teachers, options)
    table, alone = averaged.table("scores"), score(root, images, teachers[0], options)
    assert averaged.fingerprint != alone.fingerprint
    assert table["embedding"].equals(alone.table("scores")["embedding"])
    loaded = [load_model(teacher) for teacher in teachers]
    for (_, data), log_odds in zip(read_images(images, 0), log_odds_of(table)):
        pixels_BHWC = loaded[0].decode(data).copy()[None]
        logits_C = sum(each.logits(pixels_BHWC)[0].double() for each in loaded) / 2
        expected = torch.logit(torch.softmax(torch.as_tensor(logits_C), dim=0))
        np.testing.assert_allclose(log_odds, expected.sort(descending=True).values, atol=1e-4)
    others = model(root, classes=("x", "y", "z"))
    with pytest.raises(ProtegeError, match="has other classes than"):
        score(root, images, [teachers[0], others])
