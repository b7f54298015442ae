"""train: exact resume, an order that is a pure function, and processes that end with the caller."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from flows.billion_scale.options import BillionScale
from flows.billion_scale.presets import digits, imagenet_yfcc, small
from infra.errors import ProtegeError
from infra.launch import launch
from infra.settings import Processes
from infra.store import LocalStore, Store, open_store
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.inference.weights import WEIGHTS, load_network, read_description
from tasks.options import Length
from tasks.shard import ShardOptions, class_names, shard
from tasks.train import TrainOptions, train
from tasks.train.job import HISTORY
from tasks.train.monitor import StepMonitor
from tasks.train.options import LearningRate
from tasks.train.trainer import Trainer
from tests.builders.processes import launched_by
from tests.builders.trainings import CLASSES, ONE, SMALL, job, run_to
from tests.builders.waiting import wait_for

PROCESSES = Processes(count=1, threads=1)


@pytest.fixture
def labelled(root: Store, pictures: Path) -> Output:
    images = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    return gather(root, images, options=GatherOptions(lessons_per_part=5))


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("stop_after", [1, 7, 23])
def test_training_that_was_interrupted_ends_with_the_same_bytes(
    labelled: Output, tmp_path: Path, stop_after: int
) -> None:
    torch.set_num_threads(1)
    whole = Trainer(job(labelled, tmp_path / "whole"), ONE)
    whole.run()
    whole.finish()

    interrupted = Trainer(job(labelled, tmp_path / "cut"), ONE)
    run_to(interrupted, stop_after)
    resumed = Trainer(job(labelled, tmp_path / "cut"), ONE)
    assert resumed.learner.step == stop_after
    resumed.run()
    resumed.finish()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    history = "history.parquet"
    assert (tmp_path / "cut" / history).read_bytes() == (tmp_path / "whole" / history).read_bytes()


def test_convolutions_are_the_same_every_time_unless_the_options_say_otherwise(
    labelled: Output, tmp_path: Path
) -> None:
    for exactly in (False, True):
        speed = SMALL.speed.model_copy(update={"exact_resume": exactly})
        Trainer(job(labelled, tmp_path / "a", SMALL.model_copy(update={"speed": speed})), ONE)
        assert torch.backends.cudnn.deterministic == exactly
        assert torch.backends.cudnn.benchmark != exactly


@pytest.mark.parametrize("file", ["state.pt", "weights.safetensors"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
def test_damaged_checkpoint_falls_back_to_the_one_before__and_is_told(
    labelled: Output, tmp_path: Path, file: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(job(labelled, tmp_path / "a"), ONE)
    run_to(trainer, 6)
    states = sorted((tmp_path / "a" / "checkpoints").glob(f"*/{file}"))
    assert len(states) == 2
    data = states[-1].read_bytes()
    flipped = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    states[-1].write_bytes({"cut": data[:50], "flipped": flipped, "empty": b""}[harm])
    assert Trainer(job(labelled, tmp_path / "a"), ONE).learner.step == 5
    assert "step-000000006-000001 is damaged and is passed over" in caplog.text


def test_whole_checkpoint_that_cannot_be_read_here_is_an_error(
    labelled: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to(Trainer(job(labelled, tmp_path / "a"), ONE), 3)

    def out_of_memory(*_args: object, **kwargs: object) -> None:
        assert kwargs["map_location"] == "cpu"
        raise RuntimeError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", out_of_memory)
        with pytest.raises(ProtegeError, match=r"is whole, but cannot be read here \(CUDA out of"):
            Trainer(job(labelled, tmp_path / "a"), ONE)
    assert Trainer(job(labelled, tmp_path / "a"), ONE).learner.step == 3, "nothing was lost"


def test_new_checkpoints_stay_beside_damaged_ones_of_a_higher_step(
    labelled: Output, tmp_path: Path
) -> None:
    run_to(Trainer(job(labelled, tmp_path / "a"), ONE), 9)
    for state in (tmp_path / "a" / "checkpoints").glob("*/state.pt"):
        state.write_bytes(b"torn")
    again = Trainer(job(labelled, tmp_path / "a", attempt=2), ONE)
    assert again.learner.step == 0
    run_to(again, 3)
    assert Trainer(job(labelled, tmp_path / "a", attempt=3), ONE).learner.step == 3


def test_state_with_a_loss_that_is_no_number_is_never_saved(
    labelled: Output, tmp_path: Path
) -> None:
    trainer = Trainer(job(labelled, tmp_path / "a"), ONE)
    run_to(trainer, 4)
    # As on a GPU, whose losses are read some steps later.
    trainer.learner.step += 1
    trainer._monitor = StepMonitor(ONE.device, delay_steps=2)
    trainer._monitor.add(4, torch.tensor([float("nan"), 0]), torch.tensor([float("nan")]))
    assert trainer._save()
    trainer._saving.wait()
    assert Trainer(job(labelled, tmp_path / "a"), ONE).learner.step == 4
    trainer._monitor = StepMonitor(ONE.device)
    with torch.no_grad():
        next(trainer.learner.network.parameters()).fill_(float("inf"))
    assert trainer._save()
    trainer._saving.wait()
    assert Trainer(job(labelled, tmp_path / "a"), ONE).learner.step == 4


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "checkpoints").glob("*.json"))


def test_attempt_that_was_replaced_does_no_harm(labelled: Output, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    first = Trainer(job(labelled, folder, attempt=1), ONE)
    run_to(first, 5)
    second = Trainer(job(labelled, folder, attempt=2), ONE)
    assert second.learner.step == 5
    run_to(second, 7)
    theirs = ["step-000000006-000002", "step-000000007-000002"]
    assert checkpoints(folder) == theirs, "the older attempt's were removed"
    run_to(first, 12)
    newest = ["step-000000011-000001", "step-000000012-000001"]
    assert checkpoints(folder) == theirs + newest
    assert Trainer(job(labelled, folder, attempt=3), ONE).learner.step == 12
    second.run()
    second.finish()
    published = {name: (folder / name).stat().st_mtime_ns for name in (WEIGHTS, HISTORY)}
    first.run()
    first.finish()
    assert published == {name: (folder / name).stat().st_mtime_ns for name in published}


def test_checkpoint_that_vanishes_while_it_is_read_is_skipped(
    labelled: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(job(labelled, tmp_path / "a"), ONE)
    run_to(trainer, 4)
    read = LocalStore.read

    def slow(self: LocalStore, path: str) -> bytes:
        data = read(self, path)
        if path.endswith("step-000000004-000001.json"):
            for name in self.sizes("checkpoints/step-000000004-000001"):
                self.delete(name)
        return data

    monkeypatch.setattr(LocalStore, "read", slow)
    assert Trainer(job(labelled, tmp_path / "a"), ONE).learner.step == 3


def test_processes_that_found_different_checkpoints_do_not_begin(tmp_path: Path) -> None:
    """Two real ranks; with the same step first, so that they would begin."""
    ranks: list[int] = []

    def run() -> None:
        lines = launch("tests.builders.ranks", tmp_path / "job", processes=2, threads=1)
        ranks.extend(line["rank"] for line in lines)

    with pytest.raises(ProtegeError, match=r"different steps \(\[300, 400\]\).*Run again"):
        run()
    assert sorted(ranks) == [0, 1]


def test_damaged_weights_are_refused__and_made_again_once_they_are_deleted(
    root: Store, labelled: Output
) -> None:
    options = SMALL.model_copy(update={"length": Length(amount=3, unit="steps")})
    output = train(root, labelled, options, classes=CLASSES, processes=PROCESSES)
    whole = output.store.read(WEIGHTS)
    output.store.replace(WEIGHTS, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ProtegeError) as caught:
        load_network(output)
    assert f"{output.uri}/{WEIGHTS} is damaged" in str(caught.value)
    assert "Delete this file and run again" in str(caught.value)
    output.store.delete(WEIGHTS)
    history = output.store.sizes(HISTORY)[HISTORY].version
    again = train(root, labelled, options, classes=CLASSES, processes=PROCESSES)
    assert not again.reused
    assert again.digest == output.digest
    assert output.store.read(WEIGHTS) == whole
    assert output.store.sizes(HISTORY)[HISTORY].version != history
    load_network(again)


def test_train_publishes_a_model_that_says_what_it_is(root: Store, labelled: Output) -> None:
    output = train(root, labelled, SMALL, classes=CLASSES, processes=PROCESSES)
    description = read_description(output.store.read("weights.safetensors"))
    assert description.classes == CLASSES
    assert description.inputs == SMALL.inputs
    network, _ = load_network(output)
    assert network(torch.rand(1, 3, 16, 16)).shape == (1, 3)
    assert not output.store.sizes("checkpoints")
    output.store.create("checkpoints/step-000000001-000001.json", b"left by one that was killed")
    again = train(root, labelled, SMALL, classes=CLASSES, processes=PROCESSES)
    assert again.reused
    assert again.digest == output.digest
    assert not output.store.sizes("checkpoints")


def test_diverged_training_says_what_to_change(root: Store, labelled: Output) -> None:
    changes = {"learning_rate": LearningRate(base=100), "weight_decay": 1.0, "batch_size": 64}
    wild = SMALL.model_copy(update={**changes, "length": Length(amount=60, unit="steps")})
    with pytest.raises(ProtegeError, match=r"lower options\.learning_rate\.base"):
        train(root, labelled, wild, classes=CLASSES, processes=PROCESSES)


CALLER = """
import sys
from infra.settings import Processes
from infra.store import open_store
from tasks.gather import gather
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import TrainOptions, train
from tests.builders.trainings import SMALL

root, pictures = open_store(sys.argv[1]), sys.argv[2]
lessons = gather(root, shard(root, ShardOptions(source=pictures + "/labelled", labelled=True)))
options = SMALL.model_copy(update={"length": Length(amount=100_000, unit="steps")})
train(root, lessons, options, processes=Processes(1, 1))
"""


def test_killed_caller_takes_its_training_processes_along(tmp_path: Path, pictures: Path) -> None:
    root = str(tmp_path / "root")
    caller = subprocess.Popen([sys.executable, "-c", CALLER, root, str(pictures)])
    try:
        wait_for(lambda: open_store(root).sizes("train"), "the training is at work")
        assert launched_by(caller.pid)
    finally:
        caller.send_signal(signal.SIGKILL)
        caller.wait()
    wait_for(lambda: not launched_by(caller.pid), "the training ends with its caller")


def test_same_seed_gives_the_same_model_and_another_another(
    labelled: Output, tmp_path: Path
) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        options = SMALL.model_copy(update={"seed": seed, "length": Length(amount=3, unit="steps")})
        trainer = Trainer(job(labelled, tmp_path / str(number), options), ONE)
        trainer.run()
        trainer.finish()
        digests.append(hashlib.sha256(weights(tmp_path / str(number))).hexdigest())
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_warmup_that_is_longer_than_the_training_is_refused(
    root: Store, labelled: Output
) -> None:
    steps = Length(amount=20, unit="steps")
    with pytest.raises(ValidationError, match=r"warmup \(21 steps\) must not be longer than"):
        TrainOptions(
            length=steps, learning_rate=LearningRate(warmup=Length(amount=21, unit="steps"))
        )
    rate = LearningRate(warmup=Length(amount=400, unit="epochs"))
    options = SMALL.model_copy(update={"length": steps, "learning_rate": rate})
    with pytest.raises(ProtegeError, match=r"options.learning_rate.warmup \(400 epochs\) is"):
        train(root, labelled, options)
    assert not root.sizes("train")


@pytest.mark.parametrize("preset", [small, digits, imagenet_yfcc])
def test_every_warmup_of_a_preset_ends(preset: Callable[[], BillionScale]) -> None:
    assert BillionScale.model_validate(preset().model_dump()) == preset()


def test_classes_come_from_the_labelled_images(root: Store, pictures: Path) -> None:
    labelled = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    test = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    assert class_names(labelled, test) == list(CLASSES)


def test_training_process_loads_no_pandas_and_may_import_it() -> None:
    pytest.importorskip("pandas")
    script = """
import sys
import pyarrow as pa
from tasks.train.__main__ import keep_pandas_out
keep_pandas_out()
assert pa.array([b"image"]).to_pylist() == [b"image"]
assert "pandas" not in sys.modules
import pandas
assert pandas.Series([1]).sum() == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True)
