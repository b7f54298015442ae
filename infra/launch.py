"""Launch: runs a Python module in a process of its own, or in several under torchrun.

In: a module and its job file. Out: the lines of progress that the processes write, as they come;
their warnings are logged here. The processes end when the caller ends, however that happens: an
exception here stops them, and a watchdog in each of them (`watch_launcher`) notices a kill -9.
Their temporary files lie beside the job file, so that whoever removes its folder removes those of
a process that was killed, too.

    with closing(launch("tasks.train", job_path, processes=1, threads=2)) as lines:
        for line in lines: ...

Without `closing`, an exception in the loop leaves the processes at work for as long as somebody
keeps its traceback.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.crash import Crashed, Death, PeakMemory
from infra.errors import ProtegeError
from infra.lease.process import is_running, stop_processes
from infra.logs import PLACE, Line, Throttle, forward_warnings
from infra.malloc import KEEP_MEMORY
from infra.safe_path import SAFE_PATH

LAUNCHER_VARIABLE = "PROTEGE_INTERNAL_LAUNCHER_PID"
PROGRESS_VARIABLE = "PROTEGE_INTERNAL_PROGRESS"
PROGRESS = "progress.jsonl"  # beside the job file
JOB_FOLDER = "protege-job-"  # how the folder of a job file begins
POLL_SECONDS = 0.05
GRACE_SECONDS = 14  # in which a training writes a last checkpoint; see infra/stopping.py

Message = dict[str, Any]

__all__ = ["Crashed", "forward_logs", "launch", "watch_launcher", "write_progress"]


@dataclass(frozen=True)
class NodePlace:
    """The place of this machine among those of a training, and where rank 0 is met."""

    rank: int
    count: int
    address: str
    port: int


@contextmanager
def job_file(job: str) -> Iterator[Path]:
    """A file with this job, in a folder of its own until the end of the block."""
    with tempfile.TemporaryDirectory(prefix=JOB_FOLDER, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "job.json"
        path.write_text(job)
        yield path


def remove_job(job: Path) -> None:
    """In a launched process: remove the folder of `job_file` if its launcher cannot any more."""
    if launcher_is_gone() and job.parent.name.startswith(JOB_FOLDER):
        shutil.rmtree(job.parent, ignore_errors=True)


def launch(
    module: str, job: Path, processes: int, threads: int, what: str = "the training"
) -> Generator[Message, None, None]:
    """Run `python -m module job` in processes of so many threads, and yield their progress lines.

    Raises ProtegeError for a failure that the processes explain, and Crashed, with the end of the
    log, for any other failure of `what` runs.
    """
    with closing(run_processes(module, job, processes, threads, what)) as messages:
        yield from take_messages(messages)


def take_messages(messages: Iterable[Message]) -> Iterator[Message]:
    """The lines of progress among what processes write.

    A line {"log": level, "text": ...} is logged instead. Raises ProtegeError for {"error": ...}.
    """
    for message in messages:
        if "error" in message:
            raise ProtegeError(message["error"])
        if "log" in message:
            logging.getLogger(__name__).log(message["log"], "%s", message["text"])
        else:
            yield message


def run_processes(
    module: str,
    job: Path,
    processes: int,
    threads: int,
    what: str,
    place: NodePlace | None = None,
    stop: threading.Event | None = None,
) -> Generator[Message, None, None]:
    """Run the processes of this machine, one of several at `place`, and yield what they write.

    They are asked to end when `stop` is set. Raises Crashed.
    """
    stop = stop or threading.Event()
    progress = job.with_name(PROGRESS)
    log = progress.with_suffix(".log")
    progress.touch()
    with log.open("wb") as sink, progress.open() as lines:
        process = subprocess.Popen(
            _command(module, job, processes, place),
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**_environment(processes, threads, progress, place), "TMPDIR": str(job.parent)},
            start_new_session=True,
        )
        peak = PeakMemory(process.pid)
        try:
            while process.poll() is None and not stop.is_set():
                yield from _new_messages(lines)
                peak.look(time.monotonic())
                time.sleep(POLL_SECONDS)
            yield from _new_messages(lines)
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
    parent = os.getppid()

    def watch() -> None:
        while not launcher_is_gone() and os.getppid() == parent:
            time.sleep(1)
        on_gone()

    if LAUNCHER_VARIABLE in os.environ:
        threading.Thread(target=watch, name="launcher-watchdog", daemon=True).start()


def launcher_is_gone() -> bool:
    """In a launched process: whether the one that has launched it has ended; elsewhere False."""
    launcher = os.environ.get(LAUNCHER_VARIABLE)
    return launcher is not None and not is_running(int(launcher))


def write_progress(message: Mapping[str, Any]) -> None:
    """In a launched process: add a line to what the launcher reads; elsewhere nothing."""
    progress = os.environ.get(PROGRESS_VARIABLE)
    if not progress:
        return
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
def forward_logs() -> Iterator[None]:
    """In a launched process: write its warnings where the launcher reads them, with its rank."""

    def send(line: Line) -> None:
        write_progress({"log": line.level, "text": str(line)})

    throttle = Throttle(send)
    with PLACE.at(f"rank {os.environ.get('RANK', '0')}"), forward_warnings(throttle.take):
        try:
            yield
        finally:
            throttle.flush()


def _command(module: str, job: Path, processes: int, place: NodePlace | None) -> list[str]:
    python, target = [sys.executable, "-m"], [module, str(job)]
    if processes == 1 and place is None:
        # Torchrun would load torch once more, and a single process needs no rendezvous.
        return [*python, *target]
    torchrun = [*python, "torch.distributed.run", "--max-restarts=0"]
    count = f"--nproc-per-node={processes}"
    return [*torchrun, *_rendezvous(place), count, "-m", *target]


def _rendezvous(place: NodePlace | None) -> list[str]:
    if place is None:
        return ["--standalone", "--local-addr=127.0.0.1"]
    nodes = [f"--nnodes={place.count}", f"--node-rank={place.rank}"]
    return [*nodes, f"--master-addr={place.address}", f"--master-port={place.port}"]


def _environment(
    processes: int, threads: int, progress: Path, place: NodePlace | None
) -> dict[str, str]:
    alone = processes == 1 and place is None
    single = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"} if alone else {}
    return {
        # Threads that spin while they wait make a step 40 times as slow when cores are shared.
        "OMP_WAIT_POLICY": "PASSIVE",
        **KEEP_MEMORY,
        **os.environ,
        **single,
        "OMP_NUM_THREADS": str(threads),
        LAUNCHER_VARIABLE: str(os.getpid()),
        PROGRESS_VARIABLE: str(progress),
        **SAFE_PATH,
    }


def _new_messages(lines: Any) -> Iterator[Message]:
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            # Half a line is being written; take it next time.
            lines.seek(position)
            return
        yield json.loads(line)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        # Torchrun passes SIGTERM on to its workers. Should it hang, the watchdogs end them.
        stop_processes([psutil.Process(process.pid)], GRACE_SECONDS)
        process.wait()
