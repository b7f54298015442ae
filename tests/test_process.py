"""A process is known to be gone only when that is sure."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from infra.lease import process
from infra.lease.process import ProcessId
from tests.builders.waiting import wait_for

TELLS = """
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
        [sys.executable, "-c", TELLS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        told = ProcessId(**json.loads(child.stdout.readline()))
        assert told.pid == child.pid
        assert not told.is_gone()
        child.send_signal(signal.SIGKILL)
        wait_for(told.is_gone, "it is gone, though a zombie")
    assert told.is_gone()  # and then nothing at all


def test_process_of_somebody_else_that_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError

    other = replace(ProcessId.current(), start="1")
    monkeypatch.setattr(os, "kill", refused)
    monkeypatch.setattr(process, "_state_and_start", lambda pid: ("", ""))
    assert not other.is_gone()
