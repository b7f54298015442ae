"""Interrupted: a training in a process of its own, as a campaign has it, which things happen to.

    python -m tests.builders.interrupted ROOT LESSONS OPTIONS PROCESSES

with Interrupted(root, lessons, options, folder, processes=2) as training:
    training.wait_for_step(5)
    os.kill(training.ranks()[1], signal.SIGKILL)
    assert training.end() == 0

The temporary files of all its processes lie in `folder`, so that a test sees what is left.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from infra.errors import ProtegeError
from infra.launch import Crashed
from infra.settings import Processes
from infra.store import open_store
from tasks.contract import output_at
from tasks.train import TrainOptions, train
from tests.builders.processes import launched_by
from tests.builders.trainings import CLASSES
from tests.builders.waiting import EVENT_SECONDS, wait_for


class Interrupted:
    """The process and all that it has said."""

    def __init__(
        self,
        root: str,
        lessons: str,
        options: TrainOptions,
        folder: Path,
        *,
        processes: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._log = folder, folder.with_suffix(".log")
        arguments = [root, lessons, options.model_dump_json(), str(processes)]
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.builders.interrupted", *arguments],
                env={**os.environ, "TMPDIR": str(folder), **(environment or {})},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    def __enter__(self) -> "Interrupted":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.said())
        self._process.kill()
        self._process.wait()

    def said(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    def step(self) -> int:
        """The last step that was reported; -1 before the first one."""
        steps = re.findall(r"^step (\d+)", self.said(), re.M)
        return int(steps[-1]) if steps else -1

    def wait_for_step(self, step: int) -> None:
        """Wait until it has got so far, or further."""
        wait_for(lambda: self._is_at(step), f"step {step}", every_seconds=0.05)

    def _is_at(self, step: int) -> bool:
        assert self._process.poll() is None, self.said()
        return self.step() >= step

    def wait_for_text(self, text: str) -> None:
        """Wait until it has said so."""
        wait_for(lambda: text in self.said(), text, every_seconds=0.05)

    def ranks(self) -> dict[int, int]:
        """The pids of its training processes, by rank."""
        pids = {}
        for pid in launched_by(self.pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for variable in environment:
                if variable.startswith(b"RANK="):
                    pids[int(variable[5:])] = pid
        return pids

    def shared_memory(self) -> list[str]:
        """The segments of shared memory that its training processes have now."""
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in self.ranks().values()]
        return [line for text in maps for line in text.splitlines() if "/dev/shm/" in line]

    def send(self, number: int) -> None:
        """Send the launcher a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end, and that of all its processes. Returns its status."""
        status = self._process.wait(EVENT_SECONDS)
        wait_for(lambda: not launched_by(self.pid), "its processes end", every_seconds=0.05)
        return status

    def left(self) -> list[str]:
        """The temporary files that are still there."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


def _report(done: int, _total: int, note: str) -> None:
    print(f"step {done} {note}", flush=True)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    root, lessons, options, count = sys.argv[1:]
    try:
        train(
            open_store(root),
            output_at(lessons),
            TrainOptions.model_validate_json(options),
            classes=CLASSES,
            processes=Processes(int(count), 1),
            on_progress=_report,
        )
    except (ProtegeError, Crashed) as error:
        print(f"error: {error}", flush=True)
        sys.exit(1)
