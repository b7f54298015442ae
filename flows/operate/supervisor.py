"""Supervisor: starts the server, the worker and the pages, and starts again what ends.

In: the home folder with `up.json`. Out: running processes, noted in `processes.json`. On SIGTERM it
stops them, and whatever they have started, marks the runs that were at work as Crashed, and ends.

    python -m flows.operate.supervisor ~/.protege
"""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import FrameType

import psutil

from flows.operate.environment import prefect_environment
from flows.operate.state import HOST, ServerConfig, ServerState, marked_processes
from infra.http import answers
from infra.lease import ProcessId, stop_processes

POOL = "protege"
logger = logging.getLogger(__name__)
POLL_SECONDS = 0.25
GRACE_SECONDS = 10
LONGEST_PAUSE_SECONDS = 30
STEADY_SECONDS = 60  # whoever ran so long is started again without a pause
WHY = "stopped by `protege down`; Retry goes on where it was"


@dataclass
class ManagedProcess:
    """A process that is kept running."""

    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    pause: float = 0.0
    due: float = field(default_factory=time.monotonic)

    def ensure_running(self, state: ServerState, environment: dict[str, str]) -> bool:
        """Start it when it does not run and its pause is over; True when it was started."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                return False
            logger.warning("%s ended with status %s", self.name, self.process.returncode)
            steady = now - self.started > STEADY_SECONDS
            self.pause = 0.0 if steady else min(LONGEST_PAUSE_SECONDS, 2 * self.pause + 1)
            self.process, self.due = None, now + self.pause
        if now < self.due:
            return False
        with state.log(self.name).open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started = now
        return True


def supervise(state: ServerState, config: ServerConfig) -> None:
    """Keep all children running until SIGTERM or SIGINT; then stop all."""
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    # A worker that inherits an ignored SIGINT, as after `&` in a shell, ignores SIGTERM, too.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    environment = prefect_environment(state, config)
    server, *others = children(config)
    everyone = [server]
    while not stopping:
        started = [child for child in everyone if child.ensure_running(state, environment)]
        if started:
            state.save_processes(_processes(everyone))
        if len(everyone) == 1 and state.registered.exists():
            everyone += others
        time.sleep(POLL_SECONDS)
    stop_all(state, everyone)


def children(config: ServerConfig) -> list[ManagedProcess]:
    """What is kept running; the others wait until everything is registered.

    All at once, they would keep one another waiting for the processor and the database.
    """
    python = [sys.executable, "-m"]
    prefect = [*python, "prefect"]
    serve = ["server", "start", "--host", HOST, "--port", str(config.port)]
    work = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "protege"]
    return [
        ManagedProcess("server", [*prefect, *serve]),
        ManagedProcess("worker", [*prefect, *work]),
        ManagedProcess("pages", [*python, "flows.operate.report_server", str(config.reports_port)]),
    ]


def healthy(config: ServerConfig) -> bool:
    """Whether the server answers."""
    return answers(f"{config.api}/health")


def stop_all(state: ServerState, everyone: list[ManagedProcess]) -> None:
    """Stop the worker and what it runs, tell the server which runs that ended, stop the server."""
    server = everyone[0].process
    keep_server = set(_family(server.pid)) if server is not None else set()
    others = [
        process for process in marked_processes(str(state.folder)) if process not in keep_server
    ]
    stop_processes(others, GRACE_SECONDS)
    if server is not None and server.poll() is None:
        _mark_crashed()
    stop_processes(marked_processes(str(state.folder)), GRACE_SECONDS)
    state.clear_processes()


def _processes(everyone: list[ManagedProcess]) -> dict[str, ProcessId]:
    found = {"supervisor": ProcessId.current()}
    for child in everyone:
        if child.process is not None and child.process.poll() is None:
            found[child.name] = ProcessId.of(child.process.pid)
    return found


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _mark_crashed() -> None:
    """Their processes are gone; without this the runs would stay Running for ever."""
    from flows.operate.runs import mark_crashed

    try:
        mark_crashed(WHY)
    except Exception as error:
        logger.warning("could not mark the runs as Crashed: %s", error)


def main() -> None:
    """The process that `protege up` starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    state = ServerState(sys.argv[1])
    config = state.config()
    assert config is not None, "`protege up` writes it first"
    os.environ.update(prefect_environment(state, config))
    supervise(state, config)


if __name__ == "__main__":
    main()
