"""kill -9 of everything that can die, a server that is away, a lost database: runs go on."""

import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.waiting import wait_for
from tests.operate.campaigns import made, slow, training
from tests.operate.postgres import recreate
from tests.operate.served import Served

TRAIN, DIGITS = "train/single", "billion-scale/digits"


def await_training(served: Served, run_id: str) -> list[psutil.Process]:
    """The training processes, once they have saved a checkpoint."""
    started = time.time()

    def saved() -> bool:
        marks = Path(served.root).glob("train/*/checkpoints/*.json")
        return any(mark.stat().st_mtime > started for mark in marks)

    wait_for(saved, "a checkpoint is saved")
    return wait_for(lambda: served.ranks(run_id), "a training is at work")


def kill(*processes: psutil.Process) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGKILL)


def child(served: Served, name: str) -> psutil.Process:
    """A process that the supervisor keeps running."""

    def found() -> list[psutil.Process]:
        known = served.home.processes().get(name)
        process = known.find() if known else None
        return [process] if process else []

    return wait_for(found, f"{name} is at work")[0]


@pytest.fixture(scope="module")
def zombie(served: Served, data: Path, campaign: Campaign) -> str:
    """A run whose flow and worker were killed together.

    It takes a minute and a half until the server notices; other tests may run meanwhile, but for
    those that stop the server.
    """
    run_id = served.start(DIGITS, served.sections(slow(data, 12, teacher={"seed": 14})))
    await_training(served, run_id)
    kill(child(served, "worker"), served.flow_process(run_id))
    wait_for(lambda: not served.flow_processes(run_id), "its processes end with it")
    return run_id


@pytest.fixture(scope="module")
def crashed_zombie(served: Served, zombie: str) -> str:
    """The same run, once the server has noticed."""
    served.await_state(zombie, "Crashed")
    return zombie


def test_dask_worker_training_rank_and_server_may_die(
    served: Served, data: Path, zombie: str
) -> None:
    """The run goes on; and it waits with its end for a server that stays away."""
    # Shards of another size, so that Dask is there when the training is.
    run_id = served.submit(slow(data, 16, teacher={"seed": 12}, pile={"images_per_shard": 15}))
    training_ranks = await_training(served, run_id)
    dask_workers = wait_for(lambda: served.dask_workers(run_id), "Dask's worker is there")
    kill(dask_workers[0], *training_ranks)
    wait_for(lambda: served.ranks(run_id), "the training goes on in a new process")
    served.await_line(run_id, "resumes from its last checkpoint")
    before = finished_campaigns(served)
    supervisor = child(served, "supervisor")
    supervisor.suspend()
    try:
        kill(child(served, "server"))
        wait_for(lambda: finished_campaigns(served) > before, "it is finished in the store")
        time.sleep(3)
        assert served.flow_process(run_id).is_running(), "it waits for the server"
    finally:
        supervisor.resume()
    wait_for(lambda: served.protege("status", check=False).startswith("up"), "the server is back")
    served.await_state(run_id, "Completed")


def finished_campaigns(served: Served) -> int:
    return len([one for one in served.campaigns() if one.finished])


def test_flow_that_was_killed_is_crashed_at_once_and_resumed_by_name(
    served: Served, campaign: Campaign, zombie: str
) -> None:
    run_id = served.start(TRAIN, training(campaign, 20, seed=13))
    await_training(served, run_id)
    before = made(served.root)
    kill(served.flow_process(run_id))
    served.await_state(run_id, "Crashed")
    wait_for(lambda: not served.flow_processes(run_id), "the training ends with it")
    printed = served.protege("resume", served.run(run_id)["name"])
    assert run_id in printed
    served.await_state(run_id, "Completed")
    after = made(served.root)
    assert {name: after[name] for name in before} == before


def test_flow_and_worker_that_were_killed_become_crashed_and_the_next_run_goes_on(
    served: Served, data: Path, crashed_zombie: str
) -> None:
    before = made(served.root)
    following = served.start(DIGITS, served.sections(slow(data, 12, teacher={"seed": 14})))
    served.await_state(following, "Completed")  # the slot was free
    after = made(served.root)
    assert {name: after[name] for name in before} == before


def test_down_ends_runs_at_work_as_crashed_and_they_can_be_retried(
    served: Served, campaign: Campaign, crashed_zombie: str
) -> None:
    run_id = served.start(TRAIN, training(campaign, 20, seed=15))
    await_training(served, run_id)
    elsewhere = run_of_another_machine(served)
    served.protege("down")
    assert not served.processes()
    served.protege("up")
    assert served.state(run_id) == "Crashed"
    assert served.state(elsewhere) == "Running", "it goes on working"
    served.ask(f"flow_runs/{elsewhere}/set_state", {"state": {"type": "CRASHED"}})
    served.protege("resume", run_id)
    served.await_state(run_id, "Completed")


def run_of_another_machine(served: Served) -> str:
    """What the database says of a run at work on another machine, and of the worker there."""
    heartbeat = {"name": "protege-elsewhere", "heartbeat_interval_seconds": 300}
    served.ask("work_pools/protege/workers/heartbeat", heartbeat)
    place = f"deployments/{served.deployment('report/single')['id']}/create_flow_run"
    run_id = str(served.ask(place, {"state": {"type": "PENDING"}})["id"])
    served.ask(f"flow_runs/{run_id}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    return run_id


def test_lost_database_loses_no_work(
    served: Served, data: Path, campaign: Campaign, crashed_zombie: str
) -> None:
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
