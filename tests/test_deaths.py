"""What is said when a worker or a training is killed: words of ours, the memory, and the remedy."""

import os
import signal
from pathlib import Path

import dask
import pytest

from infra.errors import ProtegeError
from infra.executors import Cluster, Failures
from infra.executors.base import Failures as BaseFailures
from infra.launch import Crashed, launch
from infra.settings import DaskSettings
from infra.store import Store
from tasks.contract import PartId, Receipt, run_shards, silent

JARGON = ("KilledWorker", "functools", "_RunBatch", "distributed", "ChildFailedError", "error_file")


def has_jargon(text: str) -> list[str]:
    return [word for word in JARGON if word in text]


def die(part: PartId) -> Receipt:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(part)


def test_killed_worker_is_said_with_its_memory_and_the_remedy(
    root: Store, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # A worker takes longer than this to start again, as it may with Dask's 15 s on a busy machine.
    impatient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"})
    with impatient, pytest.raises(Failures) as failures, Cluster(DaskSettings(workers=1)) as one:
        run_shards(_stage(root), [PartId(3)], die, one, silent)
    text = str(failures.value)
    assert "was killed 4 times at score shard 3, most likely for memory" in text
    assert "GiB" in text
    assert "batch_size" in text
    assert not has_jargon(text)
    assert "another one takes up its work" in caplog.text
    assert not has_jargon(capfd.readouterr().err)


def _stage(root: Store) -> Store:
    from infra.store import open_store

    return open_store(f"{root.uri}/score/5f0c")


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_training_is_said_with_its_memory_and_the_remedy(
    tmp_path: Path, processes: int
) -> None:
    with pytest.raises(Crashed) as crash:
        list(launch("tests.builders.dying", tmp_path / "kill", processes, 1))
    text = str(crash.value)
    assert not crash.value.out_of_memory  # it may have been somebody, and goes on after all
    assert "the training was killed (SIGKILL), most likely for memory" in text
    assert "GiB" in text
    assert "batch_size" in text
    assert not has_jargon(text)


@pytest.mark.parametrize("processes", [1, 2])
def test_last_line_is_that_of_the_process_that_failed(tmp_path: Path, processes: int) -> None:
    with pytest.raises(Crashed) as crash:
        list(launch("tests.builders.dying", tmp_path / "raise", processes, 1))
    text = str(crash.value)
    assert text.splitlines()[-1] == "ValueError: the picture is too green"
    assert not crash.value.out_of_memory
    assert not has_jargon(text)


def test_every_distinct_reason_is_counted() -> None:
    errors: list[Exception] = [ProtegeError("no bread")] * 3 + [ValueError("no wine")]
    text = str(BaseFailures(errors, 60, given_up=False))
    assert text.splitlines() == [
        "4 of 60 failed:",
        "  3 times: no bread",
        "  1 times: ValueError: no wine",
    ]
    same = BaseFailures([ProtegeError("no bread")] * 3, 60, given_up=False)
    assert str(same) == "3 of 60 failed: no bread"


def test_memory_that_ran_out_is_said_as_such_with_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(Crashed) as crash:
        list(launch("tests.builders.dying", tmp_path / "memory", 1, 1))
    assert crash.value.out_of_memory
    assert "Lower options.batch_size" in str(crash.value)
    assert str(crash.value).endswith("MemoryError: no more bytes")
