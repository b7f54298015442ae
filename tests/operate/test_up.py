"""`protege up`, `down` and `status`: idempotent, also after a crash, and with nothing left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from flows.operate.catalog import deployments
from flows.operate.log_files import MAX_LOG_BYTES
from tests.builders.waiting import EVENT_SECONDS, wait_for
from tests.operate.served import Served

BY_HAND, DIGITS = "retrain/by-hand", "billion-scale/digits"
REPOSITORY = Path(__file__).parents[2]
AUTOMATIONS = {
    "protege: runs that died in silence",
    "protege: data arrived",
    "protege: runs that failed",
}


def names(served: Served) -> list[str]:
    return sorted(one["name"] for one in served.ask("automations/filter", {}))


def test_everything_is_registered(served: Served) -> None:
    found = served.ask("deployments/filter", {})
    assert len(found) == len(list(deployments()))
    assert set(names(served)) == AUTOMATIONS
    assert served.ask("work_pools/protege")["type"] == "process"
    digits = served.deployment("billion-scale/digits")
    assert digits["parameters"]["topk"]["k"] == 350
    assert digits["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    scheduled = served.deployment("retrain/scheduled")
    assert scheduled["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert scheduled["schedules"][0]["schedule"]["cron"] == "0 3 * * *"


def test_up_again_changes_nothing_and_keeps_what_people_have_set(served: Served) -> None:
    retrain = served.deployment("retrain/scheduled")
    schedule = retrain["schedules"][0]["id"]
    place = f"deployments/{retrain['id']}/schedules/{schedule}"
    served.ask(place, {"active": True}, method="PATCH")
    before = {name: one.pid for name, one in served.home.processes().items()}
    printed = served.protege("up")
    assert served.ui in printed
    assert {name: one.pid for name, one in served.home.processes().items()} == before
    again = served.deployment("retrain/scheduled")["schedules"]
    assert [(one["id"], one["active"]) for one in again] == [(schedule, True)]
    assert len(names(served)) == len(AUTOMATIONS)
    served.ask(place, {"active": False}, method="PATCH")


def test_schedule_really_gets_scheduled_runs(served: Served) -> None:
    """With some versions of libraries it gets none, without a word."""
    retrain = served.deployment("retrain/scheduled")
    schedule = retrain["schedules"][0]["id"]
    place = f"deployments/{retrain['id']}/schedules/{schedule}"
    served.ask(place, {"active": True}, method="PATCH")
    try:
        wait_for(
            lambda: any(
                run["state_name"] == "Scheduled" for run in served.runs_of("retrain/scheduled")
            ),
            "a Scheduled run of the cron schedule",
        )
    finally:
        served.ask(place, {"active": False}, method="PATCH")


def test_up_again_keeps_late_runs_pauses_and_what_was_typed(served: Served) -> None:
    retrain, digits = (served.deployment(name) for name in (BY_HAND, DIGITS))
    worker = served.home.processes()["worker"].find()
    assert worker is not None
    every = {"schedule": {"interval": 15}, "active": True, "parameters": {"root": "nowhere"}}
    typed = {**digits["parameters"], "topk": {**digits["parameters"]["topk"], "k": 7}}
    (schedule,) = served.ask(f"deployments/{retrain['id']}/schedules", [every])
    worker.suspend()
    try:
        late = wait_for(lambda: in_state(served, BY_HAND, "Late"), "a run is late")
        # To pause a deployment removes its late runs, so this is another one.
        served.ask(f"deployments/{digits['id']}/pause_deployment", {})
        served.ask(f"deployments/{digits['id']}", {"parameters": typed}, method="PATCH")
        served.protege("up")
        assert set(late) <= set(in_state(served, BY_HAND, "Late"))
        schedules = served.deployment(BY_HAND)["schedules"]
        assert [one["parameters"] for one in schedules if one["id"] == schedule["id"]] == [
            {"root": "nowhere"}
        ]
        again = served.deployment(DIGITS)
        assert (again["paused"], again["parameters"]) == (True, typed)
    finally:
        served.ask(f"deployments/{retrain['id']}/schedules/{schedule['id']}", {}, method="DELETE")
        for run_id in in_state(served, BY_HAND, "Late") + in_state(served, BY_HAND, "Scheduled"):
            served.ask(f"flow_runs/{run_id}", {}, method="DELETE")
        original = {"parameters": digits["parameters"], "paused": False}
        served.ask(f"deployments/{digits['id']}", original, method="PATCH")
        worker.resume()


def in_state(served: Served, deployment: str, state: str) -> list[str]:
    """The runs of a deployment in a state, by id."""
    wanted = {
        "deployments": {"id": {"any_": [served.deployment(deployment)["id"]]}},
        "flow_runs": {"state": {"name": {"any_": [state]}}},
    }
    return [run["id"] for run in served.ask("flow_runs/filter", wanted)]


def test_status_says_what_runs(served: Served) -> None:
    printed = served.protege("status")
    processes = ("server", "worker", "report-server", "supervisor")
    for word in ("up: " + served.ui, *processes, served.root):
        assert word in printed
    assert "secret" not in printed
    assert "trusted" not in printed


def test_a_log_that_grows_too_large_is_cut_while_its_process_runs(served: Served) -> None:
    log = served.home.log("report-server")
    with log.open("ab") as file:
        file.write(b"x\n" * MAX_LOG_BYTES)
    wait_for(lambda: log.stat().st_size <= MAX_LOG_BYTES, "the log is cut")
    assert log.with_suffix(".log.1").stat().st_size > MAX_LOG_BYTES


def test_nothing_listens_outside_loopback(served: Served) -> None:
    listening = {
        connection.laddr.ip
        for process in served.processes()
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}


def test_what_ends_is_started_again(served: Served) -> None:
    before = served.home.processes()
    for name in ("report-server", "worker"):
        os.kill(before[name].pid, signal.SIGKILL)
    wait_for(
        lambda: all(
            served.home.processes().get(name, before[name]).pid != before[name].pid
            for name in ("report-server", "worker")
        ),
        "report server and worker are started again",
    )


def test_up_after_the_supervisor_was_killed_starts_anew(served: Served) -> None:
    supervisor = served.home.processes()["supervisor"]
    os.kill(supervisor.pid, signal.SIGKILL)
    assert "processes are left" in wait_for(
        lambda: printed if "left" in (printed := served.protege("status", check=False)) else "",
        "the status says so",
    )
    served.protege("up")
    processes = served.home.processes()
    assert processes["supervisor"].pid != supervisor.pid
    assert len(served.processes("flows.operate.prefect_server")) == 1


def test_up_with_other_settings_says_what_differs(served: Served) -> None:
    environment = {**served.environment, "PROTEGE_SERVER__REPORTS_PORT": "1025"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "up"],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=served.folder,
        capture_output=True,
        text=True,
        timeout=EVENT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "reports_port" in done.stderr
    assert "protege down" in done.stderr


def test_port_that_is_taken_is_named(served: Served, tmp_path: Path) -> None:
    environment = {**served.environment, "PROTEGE_SERVER__HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "up"],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=EVENT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert f"port {served.port} is in use" in done.stderr
    assert "PROTEGE_SERVER__PORT" in done.stderr


def test_prefects_own_commands_register_the_same(served: Served) -> None:
    before = served.deployment("billion-scale/digits")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        env=served.for_prefect,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=EVENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = served.deployment("billion-scale/digits")
    for field in (
        "parameters",
        "parameter_openapi_schema",
        "concurrency_options",
        "work_pool_name",
    ):
        assert after[field] == before[field], field
    served.protege("up")  # back to the installed flows
