"""kill -9 of everything that can die, a server that is away, a lost database: runs go on.

The tests stand in the order in which they are run: the first one leaves a run without processes,
and the last but one sees what has become of it.
"""

import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.processes import wait_until
from tests.operate.campaigns import made, slow, training
from tests.operate.postgres import recreate
from tests.operate.served import Served

ZOMBIE_SECONDS = 120  # until a run whose processes are all gone must be Crashed
TRAIN, DIGITS = "train/single", "billion-scale/digits"


def await_training(served: Served, run_id: str) -> list[psutil.Process]:
    """The training processes, once they have saved a checkpoint."""
    started = time.time()

    def saved() -> bool:
        marks = Path(served.root).glob("train/*/checkpoints/*.json")
        return any(mark.stat().st_mtime > started for mark in marks)

    wait_until(saved, 90, "a checkpoint is saved")
    return list(wait_until(lambda: served.ranks(run_id), 30, "a training is at work"))


def kill(*processes: psutil.Process) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGKILL)


def child(served: Served, name: str) -> psutil.Process:
    """A process that the keeper keeps running."""
    found = served.home.processes()[name].find()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def zombie(served: Served, data: Path, campaign: Campaign) -> tuple[str, float]:
    """A run whose flow and worker were killed together, and when."""
    run_id = served.start(DIGITS, served.sections(slow(data, 4, teacher={"seed": 14})))
    await_training(served, run_id)
    kill(child(served, "worker"), served.flow_process(run_id))
    at = time.monotonic()
    wait_until(lambda: not served.flow_processes(run_id), 30, "its processes end with it")
    return run_id, at


@pytest.mark.timeout(300)
def test_dask_worker_training_rank_and_server_may_die(
    served: Served, data: Path, zombie: tuple[str, float]
) -> None:
    """The run goes on; and it waits with its end for a server that stays away."""
    # Shards of another size, so that Dask is there when the training is.
    run_id = served.submit(slow(data, 8, teacher={"seed": 12}, pile={"images_per_shard": 15}))
    training_ranks = await_training(served, run_id)
    found = served.flow_processes(run_id)
    kill(next(one for one in found if "spawn_main" in " ".join(one.cmdline())), *training_ranks)
    wait_until(lambda: served.ranks(run_id), 30, "the training goes on in a new process")
    served.await_line(run_id, "resumes from its last checkpoint")
    before = finished_campaigns(served)
    keeper = child(served, "keeper")
    keeper.suspend()
    try:
        kill(child(served, "server"))
        wait_until(lambda: finished_campaigns(served) > before, 120, "it is finished in the store")
        time.sleep(3)
        assert served.flow_process(run_id).is_running(), "it waits for the server"
    finally:
        keeper.resume()
    wait_until(lambda: served.protege("status").startswith("up"), 60, "the server is back")
    served.await_state(run_id, "Completed", seconds=60)


def finished_campaigns(served: Served) -> int:
    return len([one for one in served.campaigns() if one.finished])


@pytest.mark.timeout(200)
def test_flow_that_was_killed_is_crashed_at_once_and_resumed_by_name(
    served: Served, campaign: Campaign, zombie: tuple[str, float]
) -> None:
    run_id = served.start(TRAIN, training(campaign, 4, seed=13))
    await_training(served, run_id)
    before = made(served.root)
    kill(served.flow_process(run_id))
    served.await_state(run_id, "Crashed", seconds=30)
    wait_until(lambda: not served.flow_processes(run_id), 30, "the training ends with it")
    told = served.protege("resume", served.run(run_id)["name"])
    assert run_id in told
    served.await_state(run_id, "Completed", seconds=150)
    after = made(served.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.timeout(300)
def test_flow_and_worker_that_were_killed_become_crashed_and_the_next_run_goes_on(
    served: Served, data: Path, zombie: tuple[str, float]
) -> None:
    run_id, killed = zombie
    left = max(1.0, ZOMBIE_SECONDS - (time.monotonic() - killed))
    served.await_state(run_id, "Crashed", seconds=left)
    before = made(served.root)
    following = served.start(DIGITS, served.sections(slow(data, 4, teacher={"seed": 14})))
    served.await_state(following, "Completed", seconds=150)  # the slot was free
    after = made(served.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.timeout(200)
def test_down_ends_runs_at_work_as_crashed_and_they_can_be_retried(
    served: Served, campaign: Campaign
) -> None:
    run_id = served.start(TRAIN, training(campaign, 4, seed=15))
    await_training(served, run_id)
    served.protege("down")
    assert not served.processes()
    served.protege("up")
    assert served.state(run_id) == "Crashed"
    served.protege("resume", run_id)
    served.await_state(run_id, "Completed")


@pytest.mark.timeout(300)
def test_lost_database_loses_no_work(served: Served, data: Path, campaign: Campaign) -> None:
    before = made(served.root)
    served.protege("down")
    if served.database:
        recreate(served.database)
    else:
        shutil.rmtree(served.home.prefect)
    served.protege("up")
    assert served.ask("flow_runs/count", {}) == 0
    served.await_state(served.submit(tiny(data)), "Completed")
    assert made(served.root) == before
