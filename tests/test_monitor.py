"""monitor, saving, stopping, background: what looks at a training and keeps it, piece by piece."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from infra.background import Background, insist
from infra.errors import ProtegeError, StoreAway
from infra.store import LocalStore, open_store
from tasks.train.checkpoint import State, last_state
from tasks.train.monitor import StepMonitor
from tasks.train.saving import Saving
from tests.builders.waiting import EVENT_SECONDS

CPU = torch.device("cpu")


def values(loss: float, stop: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([loss, stop]), torch.tensor([loss])


def state(step: int, value: float = 1.0) -> State:
    network = {"weight": torch.full((3,), value)}
    return State(
        step, {"network": network, "average": network}, {"state": {}}, {"rows": []}, compiled=False
    )


def test_steps_are_seen_in_order_and_after_the_same_delay() -> None:
    monitor = StepMonitor(CPU, delay_steps=2)
    seen = []
    for step in range(5):
        monitor.add(step, *values(step, stop=step == 1))
        seen.append([(one.step, one.wants_stop) for one in monitor.take()])
    assert seen == [[], [], [(0, False)], [(1, True)], [(2, False)]]
    assert [one.step for one in monitor.take(everything=True)] == [3, 4]
    assert monitor.take() == []


def test_on_a_cpu_a_step_is_seen_at_once() -> None:
    monitor = StepMonitor(CPU)
    monitor.add(0, *values(float("inf")))
    (seen,) = monitor.take()
    assert not seen.is_finite


def test_losses_that_nobody_has_taken_are_looked_at_without_taking_them() -> None:
    monitor = StepMonitor(CPU, delay_steps=2)
    monitor.add(0, *values(1.0))
    assert monitor.is_finite()
    monitor.add(1, *values(float("nan")))
    assert not monitor.is_finite()
    assert len(monitor.take(everything=True)) == 2


def test_a_checkpoint_is_of_the_state_at_its_step_whatever_comes_after(tmp_path: Path) -> None:
    store, saving = open_store(str(tmp_path)), Saving(open_store(str(tmp_path)), 1, keep=2)
    now = state(7)
    assert saving.start(now)
    now.networks["network"]["weight"].fill_(99)
    saving.wait()
    saved = last_state(store)
    assert saved is not None
    assert saved.networks["network"]["weight"].tolist() == [1.0] * 3


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_checkpoints_are_kept(tmp_path: Path, keep: int) -> None:
    saving = Saving(open_store(str(tmp_path)), 1, keep)
    for step in range(1, 6):
        assert saving.finish(state(step))
    markers = sorted(path.stem for path in tmp_path.glob("checkpoints/*.json"))
    assert markers == [f"step-{step:09d}-000001" for step in range(6 - keep, 6)]


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    saving = Saving(open_store(str(tmp_path)), 1, keep=2)
    assert not saving.finish(state(3, float("nan")))
    assert last_state(open_store(str(tmp_path))) is None


def test_a_store_that_is_slow_holds_nobody_up_and_one_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers, replace = threading.Event(), LocalStore.replace

    def slow(_self: LocalStore, _path: str, _data: bytes) -> None:
        assert answers.wait(EVENT_SECONDS)
        raise OSError(28, "No space left on device")

    saving = Saving(open_store(str(tmp_path)), 1, keep=2)
    monkeypatch.setattr(LocalStore, "replace", slow)
    assert saving.start(state(1))
    assert saving.is_busy
    answers.set()
    saving.wait()
    assert "No space left on device" in saving.error
    assert f"no checkpoint was written to {tmp_path}" in caplog.text
    monkeypatch.setattr(LocalStore, "replace", replace)
    assert saving.finish(state(2))
    assert not saving.error
    assert saving.saved_step == 2


def void(_result: object) -> None: ...


def test_background_work_is_done_one_at_a_time() -> None:
    background, free = Background("no"), threading.Event()
    background.start(lambda: void(free.wait(EVENT_SECONDS)))
    with pytest.raises(AssertionError):
        background.start(lambda: None)
    free.set()
    background.wait()
    background.start(lambda: None)


def test_only_a_store_that_is_away_is_tried_again() -> None:
    answers = iter([StoreAway("away"), StoreAway("away"), None])
    pauses: list[float] = []

    def work() -> str:
        if error := next(answers):
            raise error
        return "read"

    assert insist(work, "it cannot be read", pause=pauses.append) == "read"
    assert pauses == [0.5, 1.0]
    answers = iter([StoreAway("for ever")])
    with pytest.raises(StoreAway, match="for ever"):
        insist(work, "it cannot be read", seconds=0)
    answers = iter([ProtegeError("no rights")])  # type: ignore[list-item]
    with pytest.raises(ProtegeError, match="no rights"):
        insist(work, "it cannot be read")


LISTENER = """
import sys, time
from infra.stopping import StopRequest
stop = StopRequest(grace_seconds=float(sys.argv[1]))
stop.listen()
print("listens", flush=True)
if sys.argv[2] == "ends":
    while not stop.is_requested: time.sleep(0.01)
    print("saved", flush=True)
else:
    while True: time.sleep(1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_a_request__and_work_that_does_not_end_is_ended(number: int) -> None:
    for grace, kind, status, said in ((600, "ends", 0, "saved\n"), (0.2, "hangs", 1, "")):
        command = [sys.executable, "-c", LISTENER, str(grace), kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            os.kill(process.pid, number)
            assert process.wait(EVENT_SECONDS) == status
            assert process.stdout.read() == said
