"""Contrastive: two views of each image, a projection beside the network, and no classes."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.inference.weights import WEIGHTS, load_network
from tasks.options import Length
from tasks.train import PROJECTION, ContrastiveOptions, train
from tasks.train.augment_options import Augment
from tasks.train.data import BatchReader, open_samples
from tasks.train.options import LearningRate, TrainOptions
from tasks.train.trainer import Trainer
from tests.builders.trainings import CLASSES, ONE, SMALL, job, run_to

CHOSEN = ContrastiveOptions(projection_size=6)
OPTIONS = SMALL.model_copy(
    update={
        "length": Length(amount=3, unit="steps"),
        "virtual_ranks": 1,
        "sync_batch_norm": True,
        "optimizer": "lars",
        "clip_norm": 1.0,
        "learning_rate": LearningRate(base=0.05, scaling="sqrt"),
        # All that is random comes from the place of an image in the batch.
        "augment": Augment(crop_min_area=0.3, flip=False),
    }
)


def contrastive_job(lessons: Output, folder: Path, options: TrainOptions = OPTIONS) -> Trainer:
    changes = {"objective": "contrastive", "objective_options": CHOSEN.content()}
    return Trainer(job(lessons, folder, options).model_copy(update=changes), ONE)


def test_reader_gives_all_first_views_and_then_all_second_ones(lessons: Output) -> None:
    samples = open_samples(lessons, CLASSES)
    two = BatchReader(samples, OPTIONS, 8, num_views=2).read(1, rank=1, num_ranks=2)
    one = BatchReader(samples, OPTIONS, 8).read(1, rank=1, num_ranks=2)
    assert two.images_BHWC.shape == (8, 16, 16, 3)
    assert (two.images_BHWC[:4] == one.images_BHWC).all()
    assert (two.targets.classes_P == one.targets.classes_P).all()
    assert not (two.images_BHWC[4:] == one.images_BHWC).all()


def test_two_processes_train_the_network_of_one(root: Store, lessons: Output) -> None:
    """With norms over the whole batch, and all of its images as negatives."""
    outputs = []
    for count in (1, 2):
        options = OPTIONS.model_copy(update={"virtual_ranks": count})
        processes = Processes(count=count, threads=1)
        outputs.append(train(root, lessons, options, objective=CHOSEN, processes=processes))
    for name in (WEIGHTS, PROJECTION):
        one, two = (safetensors.torch.load(output.store.read(name)) for output in outputs)
        torch.testing.assert_close(two, one, rtol=0, atol=2e-5)
    assert set(one) >= {"layers.0.weight", "layers.1.running_var", "layers.7.weight"}
    assert one["layers.6.weight"].shape == (6, 32)
    assert [part["name"] for part in outputs[0].body["parts"]].count(PROJECTION) == 1
    load_network(outputs[0])


def test_network_learns_and_its_head_does_not(lessons: Output, tmp_path: Path) -> None:
    changes = {
        "length": Length(amount=30, unit="steps"),
        "learning_rate": LearningRate(base=0.5),
        "optimizer": "sgd",
        "ema_decay": 0.0,
    }
    trainer = contrastive_job(lessons, tmp_path / "a", OPTIONS.model_copy(update=changes))
    before = {name: tensor.clone() for name, tensor in trainer.learner.network.named_parameters()}
    trainer.run()
    for name, parameter in trainer.learner.network.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("network.fc."), name
    rows = trainer.learner.history.rows
    assert set(rows[0]["measurements"]) == {"nt_xent", "nearest"}
    assert rows[0]["loss"] == pytest.approx(2 * rows[0]["measurements"]["nt_xent"])
    assert sum(row["loss"] for row in rows[-5:]) < sum(row["loss"] for row in rows[:5])


def test_training_that_was_interrupted_ends_with_the_same_bytes(
    lessons: Output, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    whole = contrastive_job(lessons, tmp_path / "whole")
    whole.run()
    whole.finish()
    run_to(contrastive_job(lessons, tmp_path / "cut"), 2)
    resumed = contrastive_job(lessons, tmp_path / "cut")
    assert resumed.learner.step == 2
    resumed.run()
    resumed.finish()
    for name in (WEIGHTS, PROJECTION):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
