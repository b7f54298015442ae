"""Supervisor: starts the server, the worker and the report server, and restarts those that end.

In: the state folder with `up.json`. Out: running processes, listed in `processes.json`. On SIGTERM
it stops them and whatever they have started, marks their runs as Crashed, and ends.

    python -m flows.operate.supervisor ~/.protege
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

import psutil

from flows.operate.environment import prefect_environment
from flows.operate.log_files import cap_logs
from flows.operate.state import (
    WORK_POOL,
    ServerConfig,
    ServerState,
    marked_processes,
    worker_name,
)
from infra.http import answers
from infra.lease import ProcessId, stop_processes

POLL_SECONDS = 0.25
GRACE_SECONDS = 10
LONGEST_PAUSE_SECONDS = 30
STEADY_SECONDS = 60  # a process that ran so long is restarted without a pause
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"  # Prefect gives it to every process of a run
CRASH_MESSAGE = "stopped by `protege down`; Retry continues where it was"

logger = logging.getLogger(__name__)


@dataclass
class ManagedProcess:
    """A process that is kept running."""

    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    pause_seconds: float = 0.0
    restart_at: float = field(default_factory=time.monotonic)

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def ensure_running(self, state: ServerState, environment: dict[str, str]) -> bool:
        """Start it when it does not run and its pause is over; True when it was started."""
        if self.is_running:
            return False
        now = time.monotonic()
        if self.process is not None:
            logger.warning("%s ended with status %s", self.name, self.process.returncode)
            steady = now - self.started_at > STEADY_SECONDS
            longer = min(LONGEST_PAUSE_SECONDS, 2 * self.pause_seconds + 1)
            self.pause_seconds = 0.0 if steady else longer
            self.process, self.restart_at = None, now + self.pause_seconds
        if now < self.restart_at:
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
        self.started_at = now
        return True


def supervise(state: ServerState, config: ServerConfig) -> None:
    """Keep all processes running until SIGTERM or SIGINT; then stop all."""
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    # A worker that inherits an ignored SIGINT, as after `&` in a shell, ignores SIGTERM, too.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    environment = prefect_environment(state, config)
    server, *others = managed_processes(config)
    managed = [server]
    while not stopping:
        started = [process for process in managed if process.ensure_running(state, environment)]
        if started:
            state.save_processes(_running(managed))
        if len(managed) == 1 and state.registered.exists():
            managed += others
        cap_logs(state.logs)
        time.sleep(POLL_SECONDS)
    stop_all(state, server)


def managed_processes(config: ServerConfig) -> list[ManagedProcess]:
    """The server, and the others, which start when all deployments are registered.

    Started at the same time, they would compete for the processor and the database.
    """
    python = [sys.executable, "-m"]
    serve = ["flows.operate.prefect_server", str(config.port)]
    work = ["prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process"]
    reports = ["flows.operate.report_server", str(config.reports_port)]
    return [
        ManagedProcess("server", [*python, *serve]),
        ManagedProcess("worker", [*python, *work, "--name", worker_name()]),
        ManagedProcess("report-server", [*python, *reports]),
    ]


def is_healthy(config: ServerConfig) -> bool:
    """Whether the server answers."""
    return answers(f"{config.api}/health")


def stop_all(state: ServerState, server: ManagedProcess) -> None:
    """Stop the worker and what it runs, mark these runs as Crashed, and stop the server last."""
    kept = _process_tree(server.process.pid) if server.process is not None else []
    marked = marked_processes(str(state.folder))
    runs = _runs_of(marked)
    stop_processes([process for process in marked if process not in kept], GRACE_SECONDS)
    if server.is_running:
        _mark_crashed(runs)
    stop_processes(marked_processes(str(state.folder)), GRACE_SECONDS)
    state.clear_processes()


def _running(managed: Sequence[ManagedProcess]) -> dict[str, ProcessId]:
    """The supervisor and the managed processes that run, by name."""
    running = {"supervisor": ProcessId.current()}
    for process in managed:
        if process.process is not None and process.is_running:
            running[process.name] = ProcessId.of(process.process.pid)
    return running


def _process_tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _runs_of(processes: Sequence[psutil.Process]) -> set[str]:
    """The flow runs that these processes belong to, by id."""
    runs = set()
    for process in processes:
        with suppress(psutil.Error):
            runs.add(process.environ().get(RUN_VARIABLE, ""))
    return runs - {""}


def _mark_crashed(runs: set[str]) -> None:
    """Mark these runs: without their processes they would stay Running for ever."""
    from flows.operate.runs import mark_crashed

    try:
        mark_crashed(CRASH_MESSAGE, runs)
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
