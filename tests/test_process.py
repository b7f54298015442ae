"""A process is known to be gone only when that is sure."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from infra.lease import process
from infra.lease.process import ProcessId, stop_processes
from tests.builders.waiting import wait_for

PRINT_OWN_ID = """
import json, sys
from dataclasses import asdict
from infra.lease.process import ProcessId
print(json.dumps(asdict(ProcessId.current())), flush=True)
sys.stdin.read()
"""


def test_this_process_is_there_and_its_pid_of_another_time_is_gone() -> None:
    here = ProcessId.current()
    assert here.pid == os.getpid()
    assert here.machine
    assert not here.is_gone()
    assert replace(here, start="1").is_gone()


def test_of_another_machine_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ProcessId.current()
    assert not replace(here, machine="elsewhere", start="1").is_gone()
    assert not replace(here, machine="", start="1").is_gone()
    monkeypatch.setattr(process, "machine", lambda: "")
    assert not replace(here, start="1").is_gone()


def test_killed_process_is_gone_even_before_its_parent_has_noticed() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINT_OWN_ID],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        identity = ProcessId(**json.loads(child.stdout.readline()))
        assert identity.pid == child.pid
        assert not identity.is_gone()
        child.send_signal(signal.SIGKILL)
        wait_for(identity.is_gone, "it is gone, though a zombie")
    assert identity.is_gone()  # and then nothing at all


def test_running_process_is_found_and_another_with_its_pid_is_not() -> None:
    here = ProcessId.current()
    found = here.find()
    assert found is not None
    assert found.pid == os.getpid()
    assert replace(here, start="1").find() is None
    assert replace(here, machine="elsewhere").find() is None


def test_stopped_processes_end_though_one_ignores_to_be_asked() -> None:
    code = "import signal, sys; {}; print('ready', flush=True); sys.stdin.read()"
    ignoring = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(line)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in ("pass", ignoring)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    processes = [psutil.Process(child.pid) for child in children]
    stop_processes([*processes, ended_process()], grace_seconds=0.5)
    assert not any(process.is_running() for process in processes)
    for child in children:
        child.communicate()


def ended_process() -> psutil.Process:
    """A process that was there when it was looked up, and no longer is."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        return psutil.Process(child.pid)


def test_process_of_somebody_else_that_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError

    other = replace(ProcessId.current(), start="1")
    monkeypatch.setattr(os, "kill", refused)
    monkeypatch.setattr(process, "_state_and_start", lambda pid: ("", ""))
    assert not other.is_gone()
