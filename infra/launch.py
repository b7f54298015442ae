"""Launch: runs a Python module in a process of its own, or in several under torchrun.

In: a module, its job file, and a file into which the processes write their progress and their
warnings as JSON lines. Out: the lines of progress, as they come; the warnings are logged here. The
processes end when the caller ends, however that happens: an exception here stops them, and a
watchdog in each of them (`watch_launcher`) notices a kill -9. Their temporary files lie beside the
job file, so that whoever removes its folder removes those of a process that was killed, too.

    with closing(launch("tasks.train", job_path, progress_path, processes=1)) as lines:
        for line in lines: ...

Without `closing`, an exception in the loop leaves the processes at work for as long as somebody
keeps its traceback.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from infra.crash import Crashed, Death, PeakMemory
from infra.errors import ProtegeError
from infra.lease.process import stop_processes
from infra.logs import PLACE, Line, Throttle, forward_warnings
from infra.safe_path import SAFE_PATH

LAUNCHER_VARIABLE = "PROTEGE_INTERNAL_LAUNCHER_PID"
POLL_SECONDS = 0.05
GRACE_SECONDS = 14  # in which a training writes a last checkpoint; see infra/stopping.py

__all__ = ["Crashed", "forward_logs", "launch", "watch_launcher", "write_progress"]


def launch(
    module: str,
    job: Path,
    progress: Path,
    processes: int,
    threads: int,
    what: str = "the training",
) -> Generator[dict[str, Any], None, None]:
    """Run `python -m module job` in processes of so many threads, and yield their progress lines.

    A line {"log": level, "text": ...} is logged instead. Raises ProtegeError for a line
    {"error": ...}, Crashed, with the end of the log, for any other failure of `what` runs.
    """
    log = progress.with_suffix(".log")
    progress.touch()
    with log.open("wb") as sink, progress.open() as lines:
        process = subprocess.Popen(
            _command(module, job, processes),
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**_environment(processes, threads), "TMPDIR": str(job.parent)},
            start_new_session=True,
        )
        peak = PeakMemory(process.pid)
        try:
            while process.poll() is None:
                yield from _new_lines(lines)
                peak.look(time.monotonic())
                time.sleep(POLL_SECONDS)
            yield from _new_lines(lines)
        finally:
            _stop(process)
    if process.returncode != 0:
        text = log.read_text(errors="replace")
        raise Death(what, process.returncode, text, peak.bytes).error()


def end_process() -> None:
    """End this process as it stands."""
    os._exit(1)


def watch_launcher(on_gone: Callable[[], None] = end_process) -> None:
    """In a launched process: end it when the launcher, or torchrun between them, is gone.

    `on_gone` is called instead, in a thread; it has to see to the end of the process.
    """
    launcher = int(os.environ.get(LAUNCHER_VARIABLE, "0"))
    parent = os.getppid()

    def watch() -> None:
        while psutil.pid_exists(launcher) and os.getppid() == parent:
            time.sleep(1)
        on_gone()

    if launcher:
        threading.Thread(target=watch, name="launcher-watchdog", daemon=True).start()


def write_progress(progress: Path, message: Mapping[str, Any]) -> None:
    """In a launched process: add a line to the progress file; nothing without its folder."""
    line = json.dumps(message) + "\n"
    # Who follows the progress removes the folder.
    with suppress(FileNotFoundError):
        # One appending write is atomic, and several processes write to this file.
        file = os.open(progress, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


@contextmanager
def forward_logs(progress: Path) -> Iterator[None]:
    """In a launched process: write its warnings to the progress file, with its rank."""

    def send(line: Line) -> None:
        write_progress(progress, {"log": line.level, "text": str(line)})

    throttle = Throttle(send)
    with PLACE.at(f"rank {os.environ.get('RANK', '0')}"), forward_warnings(throttle.take):
        try:
            yield
        finally:
            throttle.flush()


def _command(module: str, job: Path, processes: int) -> list[str]:
    python, target = [sys.executable, "-m"], [module, str(job)]
    if processes == 1:
        # Torchrun would load torch once more, and a single process needs no rendezvous.
        return [*python, *target]
    torchrun = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    count = [f"--nproc-per-node={processes}", "--max-restarts=0"]
    return [*python, *torchrun, *count, "-m", *target]


def _environment(processes: int, threads: int) -> dict[str, str]:
    single = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"} if processes == 1 else {}
    return {
        # Threads that spin while they wait make a step 40 times as slow when cores are shared.
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        **single,
        "OMP_NUM_THREADS": str(threads),
        LAUNCHER_VARIABLE: str(os.getpid()),
        **SAFE_PATH,
    }


def _new_lines(lines: Any) -> Iterator[dict[str, Any]]:
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            # Half a line is being written; take it next time.
            lines.seek(position)
            return
        message = json.loads(line)
        if "error" in message:
            raise ProtegeError(message["error"])
        if "log" in message:
            logging.getLogger(__name__).log(message["log"], "%s", message["text"])
        else:
            yield message


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        # Torchrun passes SIGTERM on to its workers. Should it hang, the watchdogs end them.
        stop_processes([psutil.Process(process.pid)], GRACE_SECONDS)
        process.wait()
