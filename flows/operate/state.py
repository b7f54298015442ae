"""State: what `protege up` keeps between commands, in the folder PROTEGE_SERVER__HOME.

up.json          the configuration: ports, database, root, working directory
processes.json   the supervisor and the processes that it manages, by process id and start time
registered       exists once everything is registered; the worker waits for it
prefect/         Prefect's own files, including the SQLite database
ui/              the pages of the UI, with their security policy
logs/            the output of each process
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
from infra.lease import ProcessId
from infra.settings import Settings

HOST = "127.0.0.1"
# In the environment of every process that the supervisor starts, directly or indirectly.
SUPERVISOR_VARIABLE = "PROTEGE_INTERNAL_SUPERVISOR"


@dataclass(frozen=True)
class ServerConfig:
    """What `protege up` starts: ports, database, root and working directory."""

    port: int
    reports_port: int
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
    def reports(self) -> str:
        """The address of the reports."""
        return f"http://{HOST}:{self.reports_port}"


class ServerState:
    """The folder, and the content of its files."""

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder or Settings().server.home).expanduser().absolute()

    @property
    def prefect(self) -> Path:
        """Prefect's own folder."""
        return self.folder / "prefect"

    @property
    def ui(self) -> Path:
        """The folder into which the server copies its pages."""
        return self.folder / "ui"

    @property
    def registered(self) -> Path:
        """A file that exists once everything is registered; the worker waits for it."""
        return self.folder / "registered"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / "logs" / f"{name}.log"

    def config(self) -> ServerConfig | None:
        """The configuration of the last `up`; None before the first one."""
        content = self._read("up.json")
        return ServerConfig(**content) if content else None

    def save_config(self, config: ServerConfig) -> None:
        """Save the configuration, for the owner only: the database may have a password."""
        self._write("up.json", asdict(config))

    def processes(self) -> dict[str, ProcessId]:
        """The supervisor and the processes that it manages, by name."""
        return {name: ProcessId(**fields) for name, fields in self._read("processes.json").items()}

    def save_processes(self, processes: Mapping[str, ProcessId]) -> None:
        """Save what runs."""
        content = {name: asdict(process) for name, process in processes.items()}
        self._write("processes.json", content)

    def clear_processes(self) -> None:
        """Save that nothing runs."""
        (self.folder / "processes.json").unlink(missing_ok=True)

    def supervisor(self) -> psutil.Process | None:
        """The supervisor, when it runs."""
        supervisor = self.processes().get("supervisor")
        return supervisor.find() if supervisor else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Allow one `up` or `down` at a time. Raises ProtegeError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ProtegeError(
                    f"another `protege up` or `down` is running in {self.folder}: wait for it"
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


def marked_processes(mark: str) -> list[psutil.Process]:
    """All processes that a supervisor has started, directly or not, except this process."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(SUPERVISOR_VARIABLE) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found
