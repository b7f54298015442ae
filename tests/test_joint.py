"""Joint: labelled and pseudo-labelled images in every step and every virtual rank."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import JointOptions, train
from tasks.train.job import HISTORY, TrainJob
from tasks.train.objectives import Joint
from tasks.train.trainer import Trainer
from tests.builders.batches import FirstPixels, batch_of
from tests.builders.trainings import ONE, SMALL, job

OPTIONS = SMALL.model_copy(
    update={"length": Length(amount=3, unit="steps"), "batch_size": 4, "virtual_ranks": 2}
)


@pytest.mark.parametrize("smooth", [False, True])
def test_loss_is_the_labelled_one_and_ratio_times_that_of_pseudo_labels(smooth: bool) -> None:
    labelled_BC = torch.tensor([[0.1, 0.9, 0.2]])
    pseudo_BC = torch.tensor([[0.5, 0.4, 0.8], [0.3, 0.1, 0.0]])
    options = SMALL.model_copy(update={"label_smoothing": 0.3})
    joint = JointOptions(ratio=2, smooth_pseudo_labels=smooth)
    batches = {
        "train": batch_of(labelled_BC, [(0, 1, 1.0)]),
        "unlabelled": batch_of(pseudo_BC, [(0, 0, 0.2), (0, 2, 0.2), (1, 1, 1.0)]),
    }
    seen = []

    class Recorder(FirstPixels):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            seen.append(len(images_BCHW))
            return super().forward(images_BCHW)

    loss, measured = Joint(options, 3, joint).loss(Recorder(), batches)
    assert seen == [3], "one pass, so that norms see both kinds"
    rest = 0.3 if smooth else 0.0
    targets_BC = torch.tensor([[0.5, 0, 0.5], [0, 1, 0]]) * (1 - rest) + rest / 3
    pseudo = -(targets_BC * pseudo_BC.log_softmax(1)).sum(1).mean()
    labelled = -(torch.tensor([[0.1, 0.8, 0.1]]) * labelled_BC.log_softmax(1)).sum(1).mean()
    assert float(loss) == pytest.approx(float(labelled + 2 * pseudo), rel=1e-5)
    assert float(measured["cross_entropy"]) == pytest.approx(float(labelled), rel=1e-5)
    assert float(measured["pseudo_cross_entropy"]) == pytest.approx(float(pseudo), rel=1e-5)
    assert float(measured["accuracy"]) == 1


@pytest.fixture
def pseudo(root: Store, pictures: Path) -> Output:
    images = shard(root, ShardOptions(source=f"{pictures}/test", labelled=True))
    return gather(root, images, options=GatherOptions(lessons_per_part=5))


def test_every_virtual_rank_has_both_kinds(lessons: Output, pseudo: Output, tmp_path: Path) -> None:
    changes = {
        "objective": "joint",
        "objective_options": JointOptions(ratio=1.5).content(),
        "data": {"train": lessons, "unlabelled": pseudo},
    }
    training: TrainJob = job(lessons, tmp_path / "a", OPTIONS).model_copy(update=changes)
    trainer = Trainer(training, ONE)
    for rank_batches in map(trainer.learner.read_step, range(3)):
        assert len(rank_batches) == 2
        for batches in rank_batches:
            counts = {role: len(batch.images_BHWC) for role, batch in batches.items()}
            assert counts == {"train": 2, "unlabelled": 3}


def test_joint_training_has_both_losses_in_its_history(
    root: Store, lessons: Output, pseudo: Output
) -> None:
    joint = JointOptions(ratio=1.5)
    output = train(
        root,
        lessons,
        OPTIONS,
        objective=joint,
        objective_inputs={"unlabelled": pseudo},
        processes=Processes(count=1, threads=1),
    )
    rows = pq.read_table(f"{output.uri}/{HISTORY}").to_pylist(maps_as_pydicts="strict")
    assert [row["images"] for row in rows] == [4, 8, 12], "the labelled ones"
    for row in rows:
        measured = row["measurements"]
        expected = measured["cross_entropy"] + 1.5 * measured["pseudo_cross_entropy"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_shares_that_are_unequal_and_data_that_was_not_gathered_are_refused(
    root: Store, lessons: Output, pseudo: Output, pictures: Path
) -> None:
    with pytest.raises(
        ProtegeError, match=r"batch_size \(4\) \* ratio \(1.25\) = 5 unlabelled ima"
    ):
        train(
            root,
            lessons,
            OPTIONS,
            objective=JointOptions(ratio=1.25),
            objective_inputs={"unlabelled": pseudo},
        )
    images = shard(root, ShardOptions(source=f"{pictures}/test", labelled=True))
    with pytest.raises(ProtegeError, match=r"unlabelled: .* is an output of shard, and a training"):
        train(
            root,
            lessons,
            OPTIONS,
            objective=JointOptions(),
            objective_inputs={"unlabelled": images},
        )
    assert not root.sizes("train")
