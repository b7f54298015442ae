"""State: what `protege up` keeps between commands, in the folder PROTEGE_SERVER__HOME.

up.json          the configuration: ports, database, root, working directory
processes.json   the supervisor and the processes that it manages, by process id and start time
registered       exists once everything is registered; the worker waits for it
auth             the user and the password of the server, for the owner only
prefect/         Prefect's own files, including the SQLite database
ui/              the pages of the UI, with their security policy
logs/            the output of each process, at most twice 16 MiB of each
"""

import base64
import fcntl
import json
import os
import secrets
import socket
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
WORK_POOL = "protege"
# In the environment of every process that the supervisor starts, directly or indirectly.
SUPERVISOR_VARIABLE = "PROTEGE_INTERNAL_SUPERVISOR"
# Where the pages find the API, when it is not where they are, as behind a proxy.
UI_API_VARIABLES = ("PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL")
LOGIN = "#login="
PASSWORD_BYTES = 32
OTHERS = 0o077  # may anybody but the owner read or write it?


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

    @property
    def auth_file(self) -> Path:
        """The file with the user and the password of the server."""
        return self.folder / "auth"

    def auth(self) -> str:
        """The user and the password of the server, as Prefect wants them; made when first asked.

        One that others could read is replaced.
        """
        file = self.auth_file
        if not file.exists() or file.stat().st_mode & OTHERS:
            file.unlink(missing_ok=True)
            file.touch(0o600, exist_ok=False)
            file.write_text(f"protege:{secrets.token_urlsafe(PASSWORD_BYTES)}")
        return file.read_text()

    def link(self, config: ServerConfig) -> str:
        """The address of the UI for whoever may use it: with the password."""
        return f"{config.ui}/{LOGIN}{base64.b64encode(self.auth().encode()).decode()}"

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.folder / "logs"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.logs / f"{name}.log"

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
        # Its database has the logs and the settings of all runs.
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
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
        temporary = self.folder / f".{name}.tmp"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(self.folder / name)


def worker_name() -> str:
    """The worker of this machine, among others of the same pool."""
    return f"{WORK_POOL}-{socket.gethostname()}"


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
