"""train: exact resume, an order that is a pure function, and processes that end with the caller."""

import hashlib
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.launch import launch
from infra.settings import Processes
from infra.store import LocalStore, Store, open_store
from models.registry import build
from tasks.contract import Output
from tasks.inference.weights import WEIGHTS, load_network, read_description
from tasks.options import Length
from tasks.shard import ShardOptions, class_names, shard
from tasks.train import TrainOptions, train
from tasks.train.data import epoch_order
from tasks.train.job import HISTORY, TrainJob
from tasks.train.options import Augment, LearningRate
from tasks.train.trainer import Trainer
from tasks.train.world import World
from tests.builders.processes import launched_by
from tests.builders.trainings import CLASSES, SMALL
from tests.builders.waiting import wait_for

ONE = World(0, 1, torch.device("cpu"))
PROCESSES = Processes(count=1, threads=1)


@pytest.fixture
def labelled(root: Store, pictures: Path) -> Output:
    source = ShardOptions(source=str(pictures / "labelled"), labelled=True, images_per_shard=5)
    return shard(root, source)


def job(labelled: Output, uri: Path, options: TrainOptions = SMALL, attempt: int = 1) -> TrainJob:
    uri.mkdir(parents=True, exist_ok=True)
    return TrainJob(
        uri=str(uri),
        options=options,
        objective="supervised",
        data={"train": labelled},
        classes=CLASSES,
        init=None,
        init_head="keep",
        progress=str(uri / "progress"),
        attempt=attempt,
    )


def run_to(trainer: Trainer, step: int) -> None:
    """Train up to a step, as if the process had been stopped there; it may be called again."""

    class Stopped(Exception): ...

    train_step = trainer._train_step

    def stop(batch):
        if trainer.step == step:
            raise Stopped
        return train_step(batch)

    trainer._train_step = stop
    with suppress(Stopped):
        trainer.run()
    trainer._train_step = train_step


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=7),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_epoch_order_is_a_permutation_and_a_pure_function(
    rows: list[int], seed: int, epoch: int, window: int
) -> None:
    order = epoch_order(rows, seed, epoch, window)
    everything = {(part, row) for part, count in enumerate(rows) for row in range(count)}
    assert len(order) == len(everything)
    assert {(int(part), int(row)) for part, row in order} == everything
    assert np.array_equal(order, epoch_order(rows, seed, epoch, window))


def test_epochs_and_seeds_have_their_own_orders() -> None:
    orders = {epoch_order([50], seed, epoch, 1).tobytes() for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


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
    assert resumed.step == stop_after
    resumed.run()
    resumed.finish()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    history = "history.parquet"
    assert (tmp_path / "cut" / history).read_bytes() == (tmp_path / "whole" / history).read_bytes()


def test_damaged_checkpoint_falls_back_to_the_one_before(labelled: Output, tmp_path: Path) -> None:
    trainer = Trainer(job(labelled, tmp_path / "a"), ONE)
    trainer.run()
    states = sorted((tmp_path / "a" / "checkpoints").glob("*/state.pt"))
    assert len(states) == 2
    states[-1].write_bytes(states[-1].read_bytes()[:50])
    assert Trainer(job(labelled, tmp_path / "a"), ONE).step == 23


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "checkpoints").glob("*.json"))


def test_attempt_that_was_replaced_does_no_harm(labelled: Output, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    first = Trainer(job(labelled, folder, attempt=1), ONE)
    run_to(first, 5)
    second = Trainer(job(labelled, folder, attempt=2), ONE)
    assert second.step == 5
    run_to(second, 7)
    theirs = ["step-000000006-000002", "step-000000007-000002"]
    assert checkpoints(folder) == theirs, "the older attempt's were removed"
    run_to(first, 12)
    newest = ["step-000000011-000001", "step-000000012-000001"]
    assert checkpoints(folder) == theirs + newest
    assert Trainer(job(labelled, folder, attempt=3), ONE).step == 12
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
    assert Trainer(job(labelled, tmp_path / "a"), ONE).step == 3


def test_processes_that_found_different_checkpoints_do_not_begin(tmp_path: Path) -> None:
    """Two real ranks; with the same step first, so that they would begin."""
    ranks: list[int] = []

    def run() -> None:
        job, progress = tmp_path / "job", tmp_path / "progress.jsonl"
        lines = launch("tests.builders.ranks", job, progress, processes=2, threads=1)
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


def test_any_number_of_processes_trains_the_same_model(
    root: Store, labelled: Output, tmp_path: Path
) -> None:
    """As far as nothing is random in a process and no layer looks at its whole batch."""
    options = SMALL.model_copy(
        update={
            "model": "mean_colour",
            "length": Length(amount=6, unit="steps"),
            "augment": Augment(crop_min_area=0.3, flip=False),
        }
    )
    output = train(
        root, labelled, options, classes=CLASSES, processes=Processes(count=2, threads=1)
    )
    assert output.kept == 12
    alone = Trainer(job(labelled, tmp_path / "alone", options), ONE)
    alone.run()
    alone.finish()
    of_two = safetensors.torch.load(output.store.read(WEIGHTS))
    of_one = safetensors.torch.load(weights(tmp_path / "alone"))
    torch.testing.assert_close(of_two, of_one, rtol=1e-4, atol=1e-6)
    assert read_description(output.store.read(WEIGHTS)).model == "mean_colour"


def test_given_weights_are_used_without_training(
    root: Store, labelled: Output, tmp_path: Path
) -> None:
    network = build("small_resnet_8", 3)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "given.pth")
    given = SMALL.model_copy(update={"checkpoint": str(tmp_path / "given.pth"), "ema_decay": 0})
    output = train(root, labelled, given, classes=CLASSES, processes=PROCESSES)
    loaded, _ = load_network(output)
    assert torch.equal(loaded.fc.weight, network.fc.weight)


def test_given_weights_that_do_not_fit_are_refused_in_a_sentence(
    root: Store, labelled: Output, tmp_path: Path
) -> None:
    torch.save(build("small_resnet_8", 7).state_dict(), tmp_path / "given.pth")
    given = SMALL.model_copy(update={"checkpoint": str(tmp_path / "given.pth")})
    with pytest.raises(ProtegeError, match="does not fit the model"):
        train(root, labelled, given, classes=CLASSES, processes=PROCESSES)
    missing = SMALL.model_copy(update={"checkpoint": str(tmp_path / "missing.pth")})
    with pytest.raises(ProtegeError, match="cannot be read"):
        train(root, labelled, missing, classes=CLASSES, processes=PROCESSES)


def test_diverged_training_says_what_to_change(root: Store, labelled: Output) -> None:
    changes = {"learning_rate": LearningRate(base=100), "weight_decay": 1.0, "batch_size": 64}
    wild = SMALL.model_copy(update={**changes, "length": Length(amount=60, unit="steps")})
    with pytest.raises(ProtegeError, match=r"lower learning_rate\.base"):
        train(root, labelled, wild, classes=CLASSES, processes=PROCESSES)


CALLER = """
import sys
from dataclasses import replace
from infra.settings import Processes
from infra.store import open_store
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import train
from tests.builders.trainings import CLASSES, SMALL

root, pictures = open_store(sys.argv[1]), sys.argv[2]
source = ShardOptions(source=pictures + "/labelled", labelled=True, images_per_shard=5)
options = SMALL.model_copy(update={"length": Length(amount=100_000, unit="steps")})
train(root, shard(root, source), options, classes=CLASSES, processes=Processes(1, 1))
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


def start_from(labelled: Output, init: Output, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """The weights at step 0 of a training with one more class, which starts from `init`."""
    options = SMALL.model_copy(update={"seed": seed, "length": Length(amount=0)})
    changes = {"classes": (*CLASSES, "teal"), "init": init, "init_head": "new"}
    trainer = Trainer(job(labelled, folder, options).model_copy(update=changes), ONE)
    trainer.run()
    trainer.finish()
    assert read_description(weights(folder)).classes == (*CLASSES, "teal")
    return safetensors.torch.load(weights(folder))


def test_new_head_comes_from_the_seed_and_the_features_from_init(
    root: Store, labelled: Output, tmp_path: Path
) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=3, unit="steps")})
    init = train(root, labelled, short, classes=CLASSES, processes=PROCESSES)
    before = safetensors.torch.load(init.store.read(WEIGHTS))
    head = {"fc.weight", "fc.bias"}
    first, again, other = (
        start_from(labelled, init, tmp_path / str(number), seed)
        for number, seed in enumerate((0, 0, 1))
    )
    for name in before.keys() - head:
        assert torch.equal(first[name], before[name])
        assert torch.equal(other[name], before[name])
    assert first["fc.weight"].shape == (4, before["fc.weight"].shape[1])
    for name in head:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_new_head_is_trained_on_the_classes_of_the_data(root: Store, labelled: Output) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=3, unit="steps")})
    others = ("red", "green", "blue", "teal")
    init = train(root, labelled, short, classes=others, processes=PROCESSES)
    output = train(root, labelled, short, init=init, init_head="new", processes=PROCESSES)
    assert output.classes == list(CLASSES)
    assert load_network(output)[1].classes == CLASSES
    kept = train(root, labelled, short, init=init, processes=PROCESSES)
    assert kept.classes == list(others), "those of the head that was kept"


def test_init_that_does_not_fit_is_refused_with_the_remedy(root: Store, labelled: Output) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=1, unit="steps")})
    init = train(root, labelled, short, classes=CLASSES, processes=PROCESSES)
    for classes in (("blue", "green", "teal"), ("red", "green", "blue")):
        with pytest.raises(ProtegeError, match="pass init_head='new' to keep its features"):
            train(root, labelled, short, classes=classes, init=init, processes=PROCESSES)
    larger = short.model_copy(update={"model": "small_resnet_16"})
    with pytest.raises(ProtegeError, match="set model to small_resnet_8"):
        train(root, labelled, larger, init=init, processes=PROCESSES)


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
