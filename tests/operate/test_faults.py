"""kill -9 of everything that can die, a server that is away, a lost database: runs go on."""

import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.campaign import tiny
from tests.operate.campaigns import made, slow
from tests.operate.postgres import recreate
from tests.operate.served import Served, wait_until

ZOMBIE_SECONDS = 120  # until a run whose processes are all gone must be Crashed


def training(served: Served, run_id: str) -> list[psutil.Process]:
    """The processes of the run that train, without torchrun's agent."""
    found = served.flow_processes(run_id)
    agents = [one for one in found if "torch.distributed.run" in " ".join(one.cmdline())]
    return [one for agent in agents for one in agent.children()]


def await_training(served: Served, run_id: str) -> list[psutil.Process]:
    """The training processes, once they have saved a checkpoint."""
    started = time.time()
    served.await_state(run_id, "Running")

    def saved() -> bool:
        marks = Path(served.root).glob("train/*/checkpoints/*.json")
        return any(mark.stat().st_mtime > started for mark in marks)

    wait_until(saved, 60, "a checkpoint is saved")
    return list(wait_until(lambda: training(served, run_id), 30, "a training is at work"))


def kill(*processes: psutil.Process) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGKILL)


def child(served: Served, name: str) -> psutil.Process:
    """A process that the keeper keeps running."""
    found = served.home.processes()[name].find()
    assert found is not None
    return found


def flow_process(served: Served, run_id: str) -> psutil.Process:
    """The process in which the flow itself runs: the one that started all others of the run."""
    found = served.flow_processes(run_id)
    ids = {one.pid for one in found}
    top = [one for one in found if one.ppid() not in ids]
    assert len(top) == 1, top
    return top[0]


@pytest.mark.timeout(300)
def test_dask_worker_training_rank_and_server_may_die(served: Served, pictures: Path) -> None:
    """The run goes on; and it waits with its end for a server that stays away."""
    run_id = served.submit(slow(pictures, 12, teacher={"seed": 12}))
    ranks = await_training(served, run_id)
    spawned = [
        one for one in served.flow_processes(run_id) if "spawn_main" in " ".join(one.cmdline())
    ]
    kill(*spawned[:1])
    kill(*ranks)
    keeper = child(served, "keeper")
    wait_until(lambda: training(served, run_id), 30, "the training goes on in a new process")
    keeper.suspend()
    try:
        kill(child(served, "server"))
        wait_until(lambda: any(one.finished for one in served.campaigns()), 100, "it is finished")
        time.sleep(5)
        assert flow_process(served, run_id).is_running()
    finally:
        keeper.resume()
    wait_until(lambda: served.protege("status").startswith("up"), 60, "the server is back")
    served.await_state(run_id, "Completed", seconds=60)
    served.await_line(run_id, "going on from its last checkpoint")


@pytest.mark.timeout(300)
def test_flow_that_was_killed_is_crashed_at_once_and_resumed_by_name(
    served: Served, pictures: Path
) -> None:
    run_id = served.submit(slow(pictures, 6, teacher={"seed": 13}))
    await_training(served, run_id)
    before = made(served.root)
    kill(flow_process(served, run_id))
    served.await_state(run_id, "Crashed", seconds=30)
    wait_until(lambda: not served.flow_processes(run_id), 30, "Dask and the training end with it")
    told = served.protege("resume", served.run(run_id)["name"])
    assert run_id in told
    served.await_state(run_id, "Completed")
    after = made(served.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.timeout(300)
def test_flow_and_worker_that_were_killed_become_crashed_and_the_next_run_goes_on(
    served: Served, pictures: Path
) -> None:
    options = slow(pictures, 6, teacher={"seed": 14})
    run_id = served.submit(options)
    await_training(served, run_id)
    kill(child(served, "worker"), flow_process(served, run_id))
    killed = time.monotonic()
    wait_until(lambda: not served.flow_processes(run_id), 30, "its processes end with it")
    before = made(served.root)
    following = served.submit(options)
    served.await_state(run_id, "Crashed", seconds=ZOMBIE_SECONDS)
    print(f"Crashed after {time.monotonic() - killed:.0f} s")
    served.await_state(following, "Completed", seconds=100)  # the slot was free
    after = made(served.root)
    assert {name: after[name] for name in before} == before


@pytest.mark.timeout(300)
def test_lost_database_loses_no_work(served: Served, pictures: Path) -> None:
    options = tiny(pictures, topk={"k": 5})
    served.await_state(served.submit(options), "Completed")
    before = made(served.root)
    served.protege("down")
    if served.database:
        recreate(served.database)
    else:
        shutil.rmtree(served.home.prefect)
    served.protege("up")
    assert served.ask("flow_runs/count", {}) == 0
    served.await_state(served.submit(options), "Completed")
    assert made(served.root) == before


@pytest.mark.timeout(200)
def test_down_ends_runs_at_work_as_crashed_and_they_can_be_retried(
    served: Served, pictures: Path
) -> None:
    run_id = served.submit(slow(pictures, 6, teacher={"seed": 15}))
    await_training(served, run_id)
    served.protege("down")
    assert not served.processes()
    served.protege("up")
    assert served.state(run_id) == "Crashed"
    served.protege("resume", run_id)
    served.await_state(run_id, "Completed")
