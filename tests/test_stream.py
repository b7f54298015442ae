"""Streams of shards: pipelines that do not stop at a border, and shards that fail by themselves."""

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infra.careful import carefully
from infra.errors import ProtegeError
from infra.executors import Cluster, Inline
from infra.settings import DaskSettings
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import OneByOne, Output, PartId, Receipt, run_shards, silent
from tasks.contract.batches import BATCH_SECONDS, MAX_BATCH, Batch, Batches, Done, RunBatch
from tasks.images import Limits, Unusable, decode
from tasks.images.apart import end_processes
from tasks.inference.model import Model
from tasks.score import ScoreOptions, score
from tasks.score.options import ScoreSpeed
from tasks.score.stream import ScoreJob, score_parts
from tasks.shard import ShardOptions, shard
from tests.builders.models import model
from tests.builders.pictures import COLOURS, picture

OPTIONS = ScoreOptions(batch_size=8)


@pytest.fixture
def images(root: Store, pictures: Path) -> Output:
    """60 images in shards of 7: no shard ends where a batch does."""
    return shard(root, ShardOptions(source=str(pictures / "pile"), images_per_shard=7))


def digests(output: Output) -> list[str]:
    return [part["digest"] for part in output.body["parts"]]


def test_batches_go_on_beyond_the_end_of_a_shard(
    root: Store, images: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    whole = Model.logits

    def logits(model: Model, pixels: object, *given: object, **named: object) -> object:
        sizes.append(len(pixels))  # type: ignore[arg-type]
        return whole(model, pixels, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "logits", logits)
    job = ScoreJob(f"{root.uri}/score/x", OPTIONS, images, model(root))
    parts = [PartId(number) for number in range(9)]
    made = dict(score_parts(job, parts))
    assert sizes == [8] * 8, "60 images, where shard by shard they would be 9 batches"
    assert [made[part].kept for part in parts] == [7] * 8 + [4]  # type: ignore[union-attr]


def test_any_way_to_cut_the_batches_of_shards_gives_the_same_bytes(
    root: Store, images: Output, tmp_path: Path
) -> None:
    teacher = model(root)
    whole = score(root, images, teacher, OPTIONS)
    for first in (1, 2, 5):
        other = open_store(str(tmp_path / f"{first}"))
        job = ScoreJob(f"{other.uri}/score/x", OPTIONS, images, teacher)
        numbers = iter(range(9))
        while group := list(itertools.islice(numbers, first)):
            assert all(
                isinstance(made, Receipt) for _, made in score_parts(job, map(PartId, group))
            )
        found = [
            contract.read_receipt(open_store(job.uri), contract.part_name(number)).digest
            for number in range(9)
        ]
        assert found == digests(whole)


def test_shard_that_cannot_be_read_keeps_no_other_from_being_made(
    root: Store, images: Output
) -> None:
    (Path(images.uri) / contract.part_name(3)).write_bytes(b"torn")
    job = ScoreJob(f"{root.uri}/score/x", OPTIONS, images, model(root))
    made = dict(score_parts(job, map(PartId, range(9))))
    failed = [part.number for part, result in made.items() if isinstance(result, Exception)]
    assert (len(made), failed) == (9, [3])


def test_error_of_the_network_is_that_of_a_shard_and_the_others_are_tried(
    root: Store, images: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, whole = itertools.count(), Model.logits

    def logits(model: Model, *given: object, **named: object) -> object:
        if next(calls) == 3:
            raise RuntimeError("the device is too hot")
        return whole(model, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "logits", logits)
    job = ScoreJob(f"{root.uri}/score/x", OPTIONS, images, model(root))
    made = dict(score_parts(job, map(PartId, range(9))))
    errors = [str(result) for result in made.values() if isinstance(result, Exception)]
    assert (len(made), errors) == (9, ["the device is too hot"])


def test_weights_that_cannot_be_loaded_fail_every_shard(root: Store, images: Output) -> None:
    teacher = model(root)
    (Path(teacher.uri) / "weights.safetensors").write_bytes(b"torn")
    job = ScoreJob(f"{root.uri}/score/x", OPTIONS, images, teacher)
    made = list(score_parts(job, map(PartId, range(3))))
    assert [part.number for part, _ in made] == [0, 1, 2]
    assert all(isinstance(result, ProtegeError) for _, result in made)


def test_part_that_somebody_has_made_meanwhile_is_not_made_again(root: Store) -> None:
    store = open_store(f"{root.uri}/score/x")
    made = []

    def make(part: PartId) -> Receipt:
        made.append(part.number)
        for number in {part.number, 2}:  # another run makes part 2 while this one makes part 0
            receipt = contract.PartWriter(store.uri, PartId(number)).write(
                tables.REJECTS.empty_table()
            )
        return receipt

    run_shards(store, map(PartId, range(4)), make, Inline(), silent)
    assert made == [0, 1, 3]


def test_batches_take_about_as_long_as_they_should(root: Store) -> None:
    parts = [PartId(number) for number in range(10_000)]
    batches = Batches(root.uri, parts, workers=2)
    cut = iter(batches)
    assert len(next(cut).parts) < 10
    for seconds, expected in ((BATCH_SECONDS / 7.5, 7), (1e-6, MAX_BATCH), (1e6, 1)):
        batches.learn(Done([], [], seconds))
        assert len(next(cut).parts) == expected
    batches.learn(Done([], [], 1e-6))
    rest = [batch.parts for batch in cut]
    assert len(rest[-1]) == 1, "the last ones are small, so that all workers end together"
    assert len(set(itertools.chain(*rest))) == sum(map(len, rest))


def test_of_a_batch_that_killed_its_worker_the_first_missing_part_is_the_suspect(
    root: Store,
) -> None:
    store = open_store(f"{root.uri}/score/x")
    contract.PartWriter(store.uri, PartId(0)).write(tables.REJECTS.empty_table())
    run = RunBatch(OneByOne(_refuse, "x"), contract.part_name, "shard", contract.read_receipt)
    batch = Batch(store.uri, tuple(map(PartId, range(4))))
    suspect, others = run.split(batch)
    assert (suspect.parts, suspect.is_suspect) == ((PartId(1),), True)
    assert (others.parts, others.is_suspect) == ((PartId(0), PartId(2), PartId(3)), False)
    assert not run.split(suspect)


def _refuse(part: PartId) -> Receipt:
    raise AssertionError(part)


POISON = b"poison"
SITE = f"""
import os, signal, simplejpeg
whole = simplejpeg.decode_jpeg
def decode_jpeg(data, *given, **named):
    if {POISON!r} in bytes(data):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(data, *given, **named)
simplejpeg.decode_jpeg = decode_jpeg
"""


@pytest.fixture
def poisonous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pile of 24 JPEGs, of which one kills every new process that decodes it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{os.environ.get('PYTHONPATH', '')}")
    folder = tmp_path / "pile"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        sink = io.BytesIO()
        Image.fromarray(picture(list(COLOURS)[number % 3], rng)).save(sink, "JPEG")
        (folder / f"{number:02d}.jpg").write_bytes(sink.getvalue() + POISON * (number == 10))
    end_processes()  # those of before would not know the poison
    yield folder
    end_processes()


def test_image_that_kills_its_worker_is_a_reject_with_its_reason(
    root: Store, poisonous: Path
) -> None:
    options = ShardOptions(source=str(poisonous), images_per_shard=5, verify="header")
    images = shard(root, options)
    with Cluster(DaskSettings(workers=1)) as cluster:
        scores = score(
            root, images, model(root), ScoreOptions(max_reject_percent=10), executor=cluster
        )
    assert (scores.kept, scores.rejected) == (23, 1)
    rejects = pq.read_table(Path(scores.uri) / "rejects-00002.parquet").to_pylist()
    assert [(row["reason"], row["detail"]) for row in rejects] == [
        ("crashed", "its decoder was killed by SIGKILL")
    ]


def test_image_that_kills_its_decoding_process_is_a_reject_and_its_worker_lives(
    root: Store, poisonous: Path
) -> None:
    options = ShardOptions(source=str(poisonous), images_per_shard=5, verify="header")
    images, teacher = shard(root, options), model(root)
    speed = ScoreSpeed(decode_processes="always")
    scores = score(root, images, teacher, ScoreOptions(max_reject_percent=10, speed=speed))
    assert (scores.kept, scores.rejected) == (23, 1)
    rejects = pq.read_table(Path(scores.uri) / "rejects-00002.parquet").to_pylist()
    assert [(row["reason"], row["detail"]) for row in rejects] == [
        ("crashed", "its decoder was killed by SIGKILL")
    ]


def test_careful_decoder_goes_on_after_an_image_that_has_killed_it(poisonous: Path) -> None:
    paths = sorted(poisonous.iterdir())
    with carefully():
        for path in (paths[9], paths[10], paths[11]):
            if path == paths[10]:
                with pytest.raises(Unusable, match="crashed: its decoder was killed by SIGKILL"):
                    decode(path.read_bytes(), Limits())
            else:
                decode(path.read_bytes(), Limits())
