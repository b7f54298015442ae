"""A training on several nodes: agents as they run on other machines, here all on this one."""

import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from flows.commands.join import join
from infra.crash import Crashed
from infra.errors import ProtegeError
from infra.launch import JOB_FOLDER, LAUNCHER_VARIABLE, launcher_is_gone, take_messages
from infra.nodes.channel import Channel
from infra.nodes.job import JobPlace, job_place
from infra.nodes.launch_on import launch_on, share_out
from infra.nodes.meeting import Meeting
from infra.nodes.reach import Node, _check_software, reach_nodes
from infra.settings import Processes, Settings
from infra.store import Store, open_store
from tasks.contract import Output
from tasks.inference.weights import load_network
from tasks.train import train
from tests.builders.processes import with_variable
from tests.builders.ssh_server import HOST, ssh_server
from tests.builders.trainings import CLASSES, SMALL
from tests.builders.waiting import wait_for

# As `ssh HOST COMMAND` does: a greeting of the host's shell, then the command.
SSH = """#!/bin/sh
echo "welcome to $1"
exec sh -c "$2"
"""
MARK = "PROTEGE_TEST_RUN"
ONE = Processes(count=1, threads=1)
TWO_RANKS = SMALL.model_copy(update={"virtual_ranks": 2})


@pytest.fixture
def two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, and once more this machine by a program in place of SSH."""
    use_hosts(monkeypatch, tmp_path, SSH)


def use_hosts(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    ssh = folder / "ssh"
    ssh.write_text(script)
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PROTEGE_TRAINING__HOSTS", "localhost, gpu2")
    monkeypatch.setenv("PROTEGE_TRAINING__SSH", str(ssh))
    monkeypatch.setenv("PROTEGE_TRAINING__ADDRESS", "127.0.0.1")
    monkeypatch.setenv("PROTEGE_TRAINING__PROCESSES", "1")
    monkeypatch.setenv(MARK, str(folder))
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))


def marked(folder: Path) -> set[int]:
    """The processes of the nodes, to which the environment of their leader is sent."""
    return with_variable(MARK, str(folder))


def parameters(model: Output) -> list[torch.Tensor]:
    return list(load_network(model)[0].parameters())


def run_on_nodes(module: str, job: str) -> list[dict[str, Any]]:
    with reach_nodes(Settings().training) as nodes:
        messages = launch_on(share_out(nodes, 2), module, job, address="127.0.0.1", threads=1)
        with closing(messages):
            return list(take_messages(messages))


def test_a_rank_that_fails_stops_all_nodes_and_is_named(two_hosts: None, tmp_path: Path) -> None:
    # Rank 1 raises, which only the second node knows; rank 0 sleeps.
    with pytest.raises(Crashed) as crash:
        run_on_nodes("tests.builders.dying", "raise")
    assert str(crash.value).startswith("gpu2: the training ended with status 1")
    assert str(crash.value).endswith("ValueError: the picture is too green")
    wait_for(lambda: not marked(tmp_path), "all processes have ended")


def test_a_killed_launcher_is_gone_though_nobody_has_asked_how_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not launcher_is_gone()
    with subprocess.Popen(["sleep", "60"]) as launcher:
        monkeypatch.setenv(LAUNCHER_VARIABLE, str(launcher.pid))
        assert not launcher_is_gone()
        launcher.kill()
        wait_for(launcher_is_gone, "it is gone, though a zombie")
    assert launcher_is_gone()


def test_two_nodes_give_the_weights_of_one_also_when_one_is_lost_on_the_way(
    two_hosts: None, root: Store, tmp_path: Path, lessons: Output, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent of the second node is killed at the first step, once; the training resumes."""
    killed: list[int] = []

    def on_progress(step: int, *_rest: object) -> None:
        if step and not killed:
            (agent,) = [
                child
                for child in psutil.Process().children()
                if child.cmdline()[-1] == "infra.nodes.agent" and "-P" in child.cmdline()
            ]
            killed.append(agent.pid)
            agent.kill()

    there = train(root, lessons, TWO_RANKS, classes=CLASSES, on_progress=on_progress)
    assert "resumes from its last checkpoint: gpu2: the connection has ended" in caplog.text
    wait_for(lambda: not marked(tmp_path), "all processes have ended")
    assert not list((tmp_path / "tmp").glob(f"{JOB_FOLDER}*"))

    elsewhere = open_store(str(tmp_path / "here"))
    here = train(elsewhere, lessons, TWO_RANKS, classes=CLASSES, processes=ONE)
    for one, two in zip(*map(parameters, (here, there)), strict=True):
        assert (one - two).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("#!/bin/sh\necho no route to $1 >&2\nexit 255\n", r"started on gpu2 \(no route to gpu2\)"),
        (SSH.replace("exec", "PROTEGE_DEVICE=cuda exec"), "gpu2: PROTEGE_DEVICE=cuda asks for"),
    ],
)
def test_a_host_that_cannot_help_is_one_sentence(
    script: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hosts(monkeypatch, tmp_path, script)
    monkeypatch.delenv("PROTEGE_TRAINING__PROCESSES")
    with pytest.raises(ProtegeError, match=sentence), reach_nodes(Settings().training):
        pass


def test_wrong_hosts_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = Settings().training
    for hosts, sentence in (("gpu1,gpu1", "names gpu1 twice"), ("job", "variables of a job")):
        wrong = training.model_copy(update={"hosts": hosts})
        with pytest.raises(ProtegeError, match=sentence), reach_nodes(wrong):
            pass
    missing = training.model_copy(update={"hosts": "gpu1", "ssh": str(tmp_path / "none")})
    sentence = r"gpu1: there is no program .*none; set PROTEGE"
    with pytest.raises(ProtegeError, match=sentence), reach_nodes(missing):
        pass


def test_nodes_with_other_software_are_refused() -> None:
    from infra.nodes.agent import software

    def node(name: str, **changes: str) -> Node:
        reader, writer = socket.socketpair()
        channel = Channel(reader.makefile("rb"), writer.makefile("wb"))
        return Node(name, channel, {"software": {**software(), **changes}})

    _check_software([node("a", torch="9"), node("b", torch="9")])
    for changes in ({"torch": "9"}, {"protege": "older"}):
        with pytest.raises(ProtegeError, match=r"b has another .* than the others .*: install"):
            _check_software([node("a"), node("b", **changes)])


SLURM = {
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NODELIST": "gpu[01-04,07],login",
    "SLURM_LOCALID": "0",
}
TORCHRUN = {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "4", "MASTER_ADDR": "a", "LOCAL_RANK": "3"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (SLURM, JobPlace(1, 2, "gpu01")),
        ({**SLURM, "SLURM_JOB_NODELIST": "a1,b2"}, JobPlace(1, 2, "a1")),
        ({**SLURM, "SLURM_JOB_NODELIST": "rack[1-2].x"}, JobPlace(1, 2, "rack1.x")),
        (TORCHRUN, JobPlace(0, 4, "a", leads_node=False)),
        (
            {"PET_NODE_RANK": "2", "PET_NNODES": "3", "PET_MASTER_ADDR": "job-master-0"},
            JobPlace(2, 3, "job-master-0"),
        ),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1"}, JobPlace(1, 2, "10.0.0.1")),
    ],
)
def test_the_place_in_a_job_comes_from_its_variables(
    environment: dict[str, str], place: JobPlace
) -> None:
    assert job_place(environment) == place


LEADER = """
import sys
from infra.store import open_store
from tasks.contract import output_at
from tasks.train import train
from tests.builders.trainings import CLASSES
from tests.test_nodes import TWO_RANKS

train(open_store(sys.argv[1]), output_at(sys.argv[2]), TWO_RANKS, classes=CLASSES)
"""


def test_a_leader_that_is_killed_takes_its_nodes_along_over_ssh(
    root: Store, tmp_path: Path, lessons: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real SSH client and server; the next run resumes from the checkpoints of the first."""
    there = str(tmp_path / "there")
    with ssh_server(tmp_path) as ssh:
        monkeypatch.setenv("PROTEGE_TRAINING__HOSTS", f"{HOST},localhost")
        monkeypatch.setenv("PROTEGE_TRAINING__SSH", ssh)
        monkeypatch.setenv("PROTEGE_TRAINING__PROCESSES", "1")
        monkeypatch.setenv(MARK, str(tmp_path))
        leader = subprocess.Popen([sys.executable, "-c", LEADER, there, lessons.uri])
        wait_for(lambda: list(Path(there).rglob("step-*")), "the first checkpoint is written")
        leader.send_signal(signal.SIGKILL)
        leader.wait()
        wait_for(lambda: not marked(tmp_path), "all processes of all nodes have ended")
        subprocess.run([sys.executable, "-c", LEADER, there, lessons.uri], check=True)
    assert list(Path(there).rglob("weights.safetensors"))


def in_job(node: int, port: int, *command: str) -> "subprocess.Popen[bytes]":
    variables = {
        "RANK": str(node),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "PROTEGE_TRAINING__HOSTS": "job",
        "PROTEGE_TRAINING__MEETING_PORT": str(port),
        "PROTEGE_TRAINING__PROCESSES": "1",
    }
    return subprocess.Popen([sys.executable, *command], env={**os.environ, **variables})


def test_nodes_of_a_job_meet_and_end_with_their_leader(
    root: Store, tmp_path: Path, lessons: Output
) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    joined = in_job(1, port, "-m", "flows.cli", "join")
    leader = in_job(0, port, "-c", LEADER, str(tmp_path / "there"), lessons.uri)
    assert leader.wait() == 0
    assert joined.wait() == 0
    (weights,) = (tmp_path / "there").rglob("weights.safetensors")
    assert weights.stat().st_size


def test_a_node_joins_once_whatever_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NODEID": "1", "NNODES": "2", "JOB_NODELIST": "n1", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    join()  # would try for minutes to reach a leader that is not there


def test_a_meeting_says_who_has_not_come_and_a_stranger_stops_nobody() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    with Meeting(JobPlace(0, 3, "127.0.0.1"), port) as meeting:
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\n\n")
        with socket.create_connection(("127.0.0.1", port)) as node:
            node.sendall(b'{"join": 2}\n')
            with pytest.raises(ProtegeError, match=r"the nodes \[1\] of this job have not come"):
                meeting.wait(timeout_seconds=2)
        with pytest.raises(ProtegeError, match=r"PROTEGE_TRAINING__MEETING_PORT to a free one"):
            Meeting(JobPlace(0, 3, "127.0.0.1"), port)
