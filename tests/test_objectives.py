"""Objectives: the loss, the data sets that it draws from, and the measurements in the history."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infra.store import Store
from tasks import contract, tables
from tasks.contract import Output
from tasks.gather import gather
from tasks.images import Inputs
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train.augment_options import Augment
from tasks.train.job import HISTORY, TrainJob
from tasks.train.objectives import OBJECTIVES, Objective, SoftLabels, Supervised, TensorBatch
from tasks.train.options import TrainOptions, TrainSpeed
from tasks.train.trainer import Trainer
from tasks.train.world import World
from tests.builders.batches import CLASSES, FirstPixels, batch_of

ONE_PROCESS = World(0, 1, torch.device("cpu"))
OPTIONS = TrainOptions(
    model="mean_colour",
    length=Length(amount=6, unit="steps"),
    batch_size=8,
    augment=Augment(crop_min_area=1, flip=False),
    inputs=Inputs(size=16, resize=16, pixels="unit"),
    speed=TrainSpeed(checkpoint_seconds=0),
)


def test_supervised_is_cross_entropy_against_weighted_classes() -> None:
    logits_BC = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.4, 0.8]])
    batch = batch_of(logits_BC, [(0, 1, 1.0), (1, 0, 0.75), (1, 2, 0.25)])
    options = OPTIONS.model_copy(update={"label_smoothing": 0.3})
    loss, measurements = Supervised(options, 3).loss(FirstPixels(), {"train": batch})

    logits = logits_BC.numpy().astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.array([[0, 1, 0], [0.75, 0, 0.25]]) * 0.7 + 0.1
    expected = -(targets * log_probabilities).sum(axis=1).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert set(measurements) == {"cross_entropy", "accuracy"}
    assert float(measurements["cross_entropy"]) == float(loss)
    assert float(measurements["accuracy"]) == 0.5, "of the two, the first is right"


def test_soft_labels_are_normalised_and_not_smoothed() -> None:
    logits_BC = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.4, 0.8], [0.3, 0.3, 0.6]])
    batch = batch_of(logits_BC, [(0, 1, 0.2), (0, 2, 0.6), (1, 0, 3.0), (2, 2, 1.0)])
    options = OPTIONS.model_copy(update={"label_smoothing": 0.3})
    loss, measurements = SoftLabels(options, 3).loss(FirstPixels(), {"train": batch})
    log_p = logits_BC.log_softmax(dim=1)
    targets_BC = torch.tensor([[0, 0.25, 0.75], [1, 0, 0], [0, 0, 1]])
    assert float(loss) == pytest.approx(float(-(targets_BC * log_p).sum(dim=1).mean()), rel=1e-6)
    assert float(measurements["agreement"]) == pytest.approx(1 / 3), "of the three, the last"


def test_mixup_mixes_images_and_targets_alike() -> None:
    batch = batch_of(torch.eye(3), [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)])
    batch = replace(batch, augment=Augment(mixup=1.0))
    inputs = []

    class Recorder(FirstPixels):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            inputs.append(super().forward(images_BCHW))
            return inputs[0]

    torch.manual_seed(1)
    loss, _ = Supervised(OPTIONS, 3).loss(Recorder(), {"train": batch})
    mixed_BC = inputs[0]
    assert not torch.equal(mixed_BC, torch.eye(3))
    # The images were their own targets, and so they are after mixing.
    assert float(loss) == pytest.approx(float((-mixed_BC * mixed_BC.log_softmax(1)).sum(1).mean()))


class TwoSets(Objective):
    """Supervised on one data set, and even predictions on another one, three to one."""

    sources: Mapping[str, float] = {"train": 0.75, "unlabelled": 0.25}

    def __init__(self, options: TrainOptions, num_classes: int) -> None:
        self._supervised = Supervised(options, num_classes)

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        assert {role: len(batch.images_BCHW) for role, batch in batches.items()} == {
            "train": 6,
            "unlabelled": 2,
        }
        supervised, measurements = self._supervised.loss(network, batches)
        evenness = -network(batches["unlabelled"].images_BCHW).log_softmax(1).mean()
        return supervised + evenness, {**measurements, "evenness": evenness.detach()}


@pytest.fixture
def labelled(root: Store, pictures: Path) -> Output:
    return gather(root, shard(root, ShardOptions(source=f"{pictures}/labelled", labelled=True)))


def history_of(folder: Path, data: dict[str, Output]) -> list[dict[str, Any]]:
    folder.mkdir()
    job = TrainJob(
        uri=str(folder),
        options=OPTIONS,
        objective="supervised",
        data=data,
        classes=CLASSES,
        init=None,
        init_head="keep",
        attempt=1,
    )
    trainer = Trainer(job, ONE_PROCESS)
    trainer.run()
    trainer.finish()
    table = contract.read_part(trainer._store, HISTORY, tables.HISTORY)
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return rows


def test_measurements_reach_the_history(labelled: Output, tmp_path: Path) -> None:
    rows = history_of(tmp_path / "a", {"train": labelled})
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row["measurements"]["cross_entropy"] == row["loss"]
        assert row["measurements"]["accuracy"] * 8 in range(9)


def test_trainer_draws_from_every_data_set_of_the_objective(
    labelled: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_sets(job: TrainJob, _device: torch.device) -> Objective:
        return TwoSets(job.options, len(job.classes))

    monkeypatch.setitem(OBJECTIVES, "supervised", two_sets)
    rows = history_of(tmp_path / "a", {"train": labelled, "unlabelled": labelled})
    assert set(rows[0]["measurements"]) == {"cross_entropy", "accuracy", "evenness"}
    for row in rows:
        measured = row["measurements"]
        assert row["loss"] == pytest.approx(measured["cross_entropy"] + measured["evenness"])
