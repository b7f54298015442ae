"""Virtual ranks: the number of processes changes how fast a training is, and nothing else."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from infra.launch import launch
from tasks.contract import Output
from tasks.options import Length
from tasks.train import TrainOptions
from tasks.train.job import HISTORY, TrainJob
from tasks.train.trainer import Trainer
from tasks.train.virtual_ranks import BufferAverage, own_ranks
from tests.builders.trainings import ONE, SMALL, job, run_to

# Batch norm, mixup, elastic deformation and an average of the weights: all that looks at a batch.
OPTIONS = SMALL.model_copy(
    update={"batch_size": 12, "virtual_ranks": 3, "length": Length(amount=10, unit="steps")}
)


def train_in(processes: int, job: TrainJob) -> dict[str, torch.Tensor]:
    """Train to the end in so many processes. Returns the weights."""
    folder = Path(job.uri)
    (folder / "job.json").write_text(job.model_dump_json())
    for _ in launch("tasks.train", folder / "job.json", processes, threads=1):
        pass
    return safetensors.torch.load_file(folder / "weights.safetensors")


def test_number_of_processes_changes_no_weight(lessons: Output, tmp_path: Path) -> None:
    one = train_in(1, job(lessons, tmp_path / "one", OPTIONS))

    # Two processes have one and two of the three virtual ranks.
    two = train_in(2, job(lessons, tmp_path / "two", OPTIONS))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)

    # A training that goes on with another number of processes.
    resumed = job(lessons, tmp_path / "resumed", OPTIONS)
    run_to(Trainer(resumed, ONE), 4)
    torch.testing.assert_close(train_in(2, resumed), one, rtol=1e-5, atol=1e-5)


def test_loss_in_the_history_is_that_of_all_processes(lessons: Output, tmp_path: Path) -> None:
    short = OPTIONS.model_copy(update={"length": Length(amount=3, unit="steps")})
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        train_in(processes, job(lessons, folder, short))
        losses.append(pq.read_table(folder / HISTORY)["loss"].to_pylist())
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_number_of_virtual_ranks_changes_the_weights(lessons: Output, tmp_path: Path) -> None:
    fewer = OPTIONS.model_copy(update={"virtual_ranks": 2})
    assert fewer.content() != OPTIONS.content()
    three, two = job(lessons, tmp_path / "three", OPTIONS), job(lessons, tmp_path / "two", fewer)
    for training in (three, two):
        trainer = Trainer(training, ONE)
        trainer.run()
        trainer.finish()
    weights = "weights.safetensors"
    assert (tmp_path / "three" / weights).read_bytes() != (tmp_path / "two" / weights).read_bytes()


@given(st.integers(1, 40), st.data())
def test_every_virtual_rank_has_one_process(num_ranks: int, data: st.DataObject) -> None:
    num_processes = data.draw(st.integers(1, num_ranks))
    shares = [own_ranks(process, num_processes, num_ranks) for process in range(num_processes)]
    assert [rank for share in shares for rank in share] == list(range(num_ranks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_running_statistics_are_the_mean_over_virtual_ranks() -> None:
    norm = nn.BatchNorm1d(3)
    shares = [torch.randn(5, 3) + rank for rank in range(4)]
    average = BufferAverage(norm, num_ranks=4)
    average.start_step()
    for share in shares:
        average.start_rank()
        norm(share)
        average.add_rank()
    average.finish_step(lambda total: total)
    mean = torch.stack([share.mean(dim=0) for share in shares]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    assert norm.num_batches_tracked == 1


@given(st.integers(1, 2_000))
def test_default_is_about_32_images_of_equal_shares(batch_size: int) -> None:
    count = TrainOptions(batch_size=batch_size).num_virtual_ranks
    assert batch_size % count == 0
    assert count == 1 or batch_size / count >= 32


def test_shares_must_be_equal() -> None:
    with pytest.raises(ValidationError, match=r"batch_size \(10\) must be a multiple of virtual_r"):
        TrainOptions(batch_size=10, virtual_ranks=3)
