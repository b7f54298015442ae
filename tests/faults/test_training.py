"""Trainings that are killed, cancelled, or have no room: they go on, or resume to the same."""

import os
import resource
import signal
from pathlib import Path

import pytest

from infra.store import open_store
from tasks.contract import Output
from tasks.gather import gather
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import TrainOptions
from tasks.train.options import TrainSpeed
from tests.builders.interrupted import Interrupted
from tests.builders.trainings import SMALL
from tests.builders.waiting import wait_for

STEPS = 200  # enough for a test to do something meanwhile
OFTEN = SMALL.model_copy(
    update={
        "length": Length(amount=STEPS, unit="steps"),
        "batch_size": 6,
        "virtual_ranks": 2,
        "speed": TrainSpeed(checkpoint_seconds=0, threads=1, decode_threads=1),
    }
)
SELDOM = OFTEN.model_copy(update={"speed": TrainSpeed(checkpoint_seconds=86_400, threads=1)})


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Output:
    root = open_store(str(tmp_path_factory.mktemp("lessons")))
    options = ShardOptions(source=str(pictures / "labelled"), labelled=True)
    return gather(root, shard(root, options))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, lessons: Output) -> dict[int, bytes]:
    """The weights of a training that nothing happened to, by its number of processes."""
    folder, found = tmp_path_factory.mktemp("undisturbed"), {}
    for processes in (1, 2):
        root = str(folder / f"root-{processes}")
        temporary = folder / f"temporary-{processes}"
        with Interrupted(root, lessons.uri, OFTEN, temporary, processes=processes) as training:
            assert training.end() == 0
            assert not training.left()
        found[processes] = weights(root)
    return found


def output(root: str) -> Path:
    (folder,) = (Path(root) / "train").iterdir()
    return folder


def weights(root: str) -> bytes:
    return (output(root) / "weights.safetensors").read_bytes()


def saved_steps(root: str) -> list[int]:
    markers = Path(root).glob("train/*/checkpoints/*.json")
    return sorted(int(marker.name.split("-")[1]) for marker in markers)


def train_to_the_end(
    root: str, lessons: Output, options: TrainOptions, folder: Path, processes: int
) -> None:
    with Interrupted(root, lessons.uri, options, folder, processes=processes) as training:
        assert training.end() == 0
        assert not training.left()


def test_killed_rank_is_replaced_and_the_weights_are_the_same(
    tmp_path: Path, lessons: Output, undisturbed: dict[int, bytes]
) -> None:
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, OFTEN, tmp_path / "t", processes=2) as training:
        wait_for(lambda: saved_steps(root), "a checkpoint", every_seconds=0.01)
        assert not training.shared_memory(), "none can be left by a process that is killed"
        os.kill(training.ranks()[1], signal.SIGKILL)
        assert training.end() == 0
        assert "the training died and resumes from its last checkpoint" in training.said()
        assert not training.left()
    assert weights(root) == undisturbed[2]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_launcher_takes_all_along_and_the_same_command_resumes(
    tmp_path: Path, lessons: Output, undisturbed: dict[int, bytes], processes: int
) -> None:
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, SELDOM, tmp_path / "t", processes=processes) as training:
        training.wait_for_step(1)
        training.send(signal.SIGKILL)
        assert training.end() == -signal.SIGKILL
        assert not training.left()
    # Its processes have noticed, and saved what they had.
    assert len(saved_steps(root)) == 1
    assert saved_steps(root)[0] >= 1
    train_to_the_end(root, lessons, SELDOM, tmp_path / "again", processes)
    assert weights(root) == undisturbed[processes]


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_cancelled_training_writes_a_last_checkpoint_and_resumes_from_it(
    tmp_path: Path,
    lessons: Output,
    undisturbed: dict[int, bytes],
    number: signal.Signals,
    processes: int,
) -> None:
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, SELDOM, tmp_path / "t", processes=processes) as training:
        training.wait_for_step(1)
        assert not saved_steps(root)
        training.send(number)
        training.end()
        assert not training.left()
        reached = training.step()
    assert len(saved_steps(root)) == 1
    assert saved_steps(root)[0] >= reached
    train_to_the_end(root, lessons, SELDOM, tmp_path / "again", processes)
    assert weights(root) == undisturbed[processes]


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_that_is_asked_to_end_ends_all_after_the_same_step(
    tmp_path: Path, lessons: Output, rank: int
) -> None:
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, SELDOM, tmp_path / "t", processes=2) as training:
        training.wait_for_step(1)
        os.kill(training.ranks()[rank], signal.SIGTERM)
        assert training.end() == 1
        (step,) = saved_steps(root)
        assert f"error: the training was stopped at step {step:,} of {STEPS}" in training.said()
        assert f"goes on from step {step:,}" in training.said()


def test_full_disk_is_a_warning_while_the_training_goes_on(
    tmp_path: Path, lessons: Output, undisturbed: dict[int, bytes]
) -> None:
    """A limit on the size of its files, set and lifted while it runs, for want of a small disk."""
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, OFTEN, tmp_path / "t") as training:
        wait_for(lambda: saved_steps(root), "a checkpoint", every_seconds=0.01)
        pid = training.ranks()[0]
        no_limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, no_limit[1]))
        training.wait_for_text("no checkpoint was written to")
        held_up = training.step()
        training.wait_for_step(held_up + 1)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, no_limit)
        assert training.end() == 0
        assert "File too large" in training.said()
    assert weights(root) == undisturbed[1]
    assert not list(Path(root).rglob(".tmp-*"))


def test_full_disk_at_the_end_is_a_sentence_and_the_same_command_finishes(
    tmp_path: Path, lessons: Output, undisturbed: dict[int, bytes]
) -> None:
    root = str(tmp_path / "root")
    with Interrupted(root, lessons.uri, OFTEN, tmp_path / "t") as training:
        wait_for(lambda: saved_steps(root), "a checkpoint", every_seconds=0.01)
        pid = training.ranks()[0]
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, hard))
        assert training.end() == 1
        last = saved_steps(root)[-1]
        assert "error: the training is done, and its result cannot be written" in training.said()
        assert f"it goes on from step {last}" in training.said()
        assert "Traceback" not in training.said()
    train_to_the_end(root, lessons, OFTEN, tmp_path / "again", 1)
    assert weights(root) == undisturbed[1]
