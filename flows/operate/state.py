"""Home: what `protege up` remembers between commands, in the folder PROTEGE_HOME.

up.json          what was asked for: ports, database, root, working directory
processes.json   what runs: the keeper and its children, by process id and start time
registered       the sign for the keeper to start the worker
prefect/         Prefect's own files, the SQLite database among them
ui/              the pages of the UI, confined to this server
logs/            what the server, the worker, the pages and the keeper print
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.errors import ProtegeError
from infra.settings import Settings

HOST = "127.0.0.1"
MARK = "PROTEGE_KEEPER"  # in the environment of all that the keeper starts, however indirectly


@dataclass(frozen=True)
class Asked:
    """What `protege up` was asked for."""

    port: int
    pages_port: int
    database: str
    root: str
    notify: str
    folder: str

    @property
    def api(self) -> str:
        """The address of Prefect's API."""
        return f"http://{HOST}:{self.port}/api"

    @property
    def ui(self) -> str:
        """The address of the UI."""
        return f"http://{HOST}:{self.port}"

    @property
    def pages(self) -> str:
        """The address of the reports."""
        return f"http://{HOST}:{self.pages_port}"


@dataclass(frozen=True)
class Process:
    """A process by its id and its start, since ids are used again."""

    pid: int
    started: float

    def find(self) -> psutil.Process | None:
        """The process, or None when it has ended."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < 1
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class Home:
    """The folder, and what stands in its files."""

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder or Settings().home).expanduser().absolute()

    @property
    def prefect(self) -> Path:
        """Prefect's own folder."""
        return self.folder / "prefect"

    @property
    def ui(self) -> Path:
        """Where the server copies its pages to."""
        return self.folder / "ui"

    @property
    def registered(self) -> Path:
        """A file that is there once everything is registered; the worker waits for it."""
        return self.folder / "registered"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / "logs" / f"{name}.log"

    def asked(self) -> Asked | None:
        """What the last `up` was asked for; None when there was none."""
        content = self._read("up.json")
        return Asked(**content) if content else None

    def ask(self, asked: Asked) -> None:
        """Remember what is asked for; only the owner may read it, for a database has a password."""
        self._write("up.json", asdict(asked))

    def processes(self) -> dict[str, Process]:
        """The keeper and its children, by name."""
        return {name: Process(**one) for name, one in self._read("processes.json").items()}

    def note(self, processes: Mapping[str, Process]) -> None:
        """Remember what runs."""
        self._write("processes.json", {name: asdict(one) for name, one in processes.items()})

    def forget(self) -> None:
        """Nothing runs any more."""
        (self.folder / "processes.json").unlink(missing_ok=True)

    def keeper(self) -> psutil.Process | None:
        """The keeper, when it runs."""
        keeper = self.processes().get("keeper")
        return keeper.find() if keeper else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One `up` or `down` at a time. Raises ProtegeError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ProtegeError(
                    f"another `protege up` or `down` is at work in {self.folder}; wait for it"
                ) from None
            yield

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return {}
        return content

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.tmp"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(self.folder / name)


def this_process() -> Process:
    """The process that asks."""
    return Process(os.getpid(), psutil.Process().create_time())


def marked(mark: str) -> list[psutil.Process]:
    """All processes that a keeper has started, and those that these have started, but for us."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found
