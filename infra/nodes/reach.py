"""Reach: the nodes of a list of hosts, or of a job, each with an agent that waits for orders.

In: the section `training` of the settings. Out: `Node`s that run the same protege, each with what
its machine offers. A host named `localhost` is this machine, without SSH.

    with reach_nodes(Settings().training) as nodes: ...
"""

import functools
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from infra.errors import ProtegeError
from infra.launch import GRACE_SECONDS
from infra.nodes.agent import software
from infra.nodes.channel import Channel, Message
from infra.nodes.job import job_place
from infra.nodes.meeting import Meeting
from infra.safe_path import SAFE_PATH
from infra.settings import JOB, TrainingSettings

LOCALHOST = "localhost"
GREET_SECONDS = 120.0  # to log in, to load Python from a shared disk, to ask torch for its GPUs
END_SECONDS = GRACE_SECONDS + 6  # in which an agent has stopped its processes
# What a node must know as this machine does: settings, credentials of the store, the network.
FORWARDED = ("PROTEGE_", "AWS_", "FSSPEC_", "NCCL_", "GLOO_")
NOT_FORWARDED = "PROTEGE_INTERNAL_"


@dataclass(frozen=True)
class Node:
    """A machine and the channel to its agent; `log` has what SSH and the agent complain of."""

    name: str
    channel: Channel
    offer: Message
    log: IO[bytes] | None = None

    @property
    def processes(self) -> int:
        """Training processes that it offers: one for each GPU, else one, or as its settings say."""
        return int(self.offer["processes"])


@contextmanager
def reach_nodes(settings: TrainingSettings) -> Iterator[list[Node]]:
    """The nodes, in order; the first one has rank 0. Raises ProtegeError for one that fails."""
    with ExitStack() as stack:
        channels = _job(settings, stack) if settings.hosts == JOB else _hosts(settings, stack)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(FORWARDED) and not name.startswith(NOT_FORWARDED)
        }
        for channel, _ in channels.values():
            # The nodes of a job have the environment of the job.
            channel.send({"environment": {} if settings.hosts == JOB else environment})
        deadline = time.monotonic() + GREET_SECONDS
        nodes = [
            Node(name, channel, _offer(name, channel, log, deadline), log)
            for name, (channel, log) in channels.items()
        ]
        _check_software(nodes)
        yield nodes


def first_address(settings: TrainingSettings, nodes: Sequence[Node]) -> str:
    """Where the nodes find the first one."""
    if settings.address:
        return settings.address
    if settings.hosts == JOB:
        return job_place().leader
    if len(nodes) == 1:
        return "127.0.0.1"
    return str(nodes[0].offer["address"])


Channels = dict[str, tuple[Channel, IO[bytes] | None]]


def _hosts(settings: TrainingSettings, stack: ExitStack) -> Channels:
    names = [name.strip() for name in settings.hosts.split(",") if name.strip()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ProtegeError(
            f"PROTEGE_TRAINING__HOSTS names {min(twice)} twice: name each host once, and set "
            "PROTEGE_TRAINING__PROCESSES for the processes of each"
        )
    return {name: stack.enter_context(_agent(name, settings)) for name in names}


@functools.cache
def meeting(port: int) -> Meeting:
    """The meeting of the job that this process leads; it lasts as long as the process."""
    return Meeting(job_place(), port)


def _job(settings: TrainingSettings, stack: ExitStack) -> Channels:
    place = job_place()
    if not place.leads_job:
        raise ProtegeError(
            f"node {place.node} of this job does not lead it: run `protege join` there, or the "
            "same `protege run` as on the leading node"
        )
    own = stack.enter_context(_agent(LOCALHOST, settings))
    others = meeting(settings.meeting_port).wait()
    named = {f"node {node}": (others[node], None) for node in sorted(others)}
    return {"node 0": own, **named}


@contextmanager
def _agent(host: str, settings: TrainingSettings) -> Iterator[tuple[Channel, IO[bytes]]]:
    """Start an agent on a host, and stop it at the end of the block."""
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                _command(host, settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **SAFE_PATH},
                start_new_session=True,  # a Ctrl-C is for this process, which then ends them
            )
        except FileNotFoundError as error:
            raise ProtegeError(
                f"{host}: there is no program {error.filename}; set PROTEGE_TRAINING__SSH"
            ) from error
        assert process.stdin is not None
        assert process.stdout is not None
        channel = Channel(process.stdout, process.stdin)
        try:
            yield channel, log
        finally:
            channel.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(host: str, settings: TrainingSettings) -> list[str]:
    if host == LOCALHOST:
        return [sys.executable, "-m", "infra.nodes.agent"]
    python = settings.python or sys.executable
    remote = f"exec {shlex.quote(python)} -P -m infra.nodes.agent"
    return [*shlex.split(settings.ssh), host, remote]


def _offer(name: str, channel: Channel, log: IO[bytes] | None, deadline: float) -> Message:
    try:
        # What an order of before has left, which was stopped and did not end in time, is skipped.
        while (offer := channel.receive(max(0.0, deadline - time.monotonic()))) is not None:
            if "software" in offer or "refused" in offer:
                break
    except TimeoutError:
        raise ProtegeError(
            f"{name} has not answered within {GREET_SECONDS:.0f} s{log_end(log)}"
        ) from None
    if offer is None:
        raise ProtegeError(
            f"protege cannot be started on {name}{log_end(log)}. It has to run there as here: "
            "`ssh HOST PYTHON -m infra.nodes.agent` must wait for input; "
            "PROTEGE_TRAINING__PYTHON says which Python, PROTEGE_TRAINING__SSH how to get there"
        )
    if "refused" in offer:
        raise ProtegeError(f"{name}: {offer['refused']}")
    return offer


def log_end(log: IO[bytes] | None) -> str:
    """The last line of what SSH or an agent complained of, to be put behind a sentence."""
    if log is None:
        return ""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def _check_software(nodes: list[Node]) -> None:
    """Raise ProtegeError when two nodes would compute different things."""
    here: dict[str, Any] = {"protege": software()["protege"], "torch": None}
    for node in nodes:
        for name, found in node.offer["software"].items():
            # Torch need only be the same on the nodes, whatever this machine has.
            here[name] = here[name] or found
            if found != here[name]:
                raise ProtegeError(
                    f"{node.name} has another {name} ({found}) than the others ({here[name]}): "
                    "install the same on all"
                )
