"""Served: a server that `protege up` has started for tests, and what tests ask of it."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import yaml

from flows.billion_scale.options import BillionScale
from flows.operate.state import ServerState, marked_processes
from infra.store import open_store
from tasks.campaigns import Campaign, campaigns
from tests.builders.waiting import EVENT_SECONDS, wait_for


@contextmanager
def server(folder: Path, database: str) -> Iterator["Served"]:
    """A server, up; everything that it has started is gone afterwards.

    An empty database is SQLite in the folder.
    """
    served = Served(folder, free_port(), free_port(), database)
    try:
        served.protege("up")
        yield served
    finally:
        served.protege("down", check=False)
    assert not served.processes(), "`protege down` leaves nothing behind"


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Served:
    """A server, its worker and its pages, with a root of its own."""

    folder: Path
    port: int
    reports_port: int
    database: str

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """The address of the UI for its user."""
        config = self.home.config()
        assert config is not None, "it was up"
        return self.home.link(config)

    @property
    def pages(self) -> str:
        return f"http://127.0.0.1:{self.reports_port}"

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    @property
    def home(self) -> ServerState:
        return ServerState(str(self.folder / "home"))

    @property
    def environment(self) -> dict[str, str]:
        """What the user would have exported."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {
            **own,
            "PROTEGE_SERVER__HOME": str(self.home.folder),
            "PROTEGE_ROOT": self.root,
            "PROTEGE_SERVER__PORT": str(self.port),
            "PROTEGE_SERVER__REPORTS_PORT": str(self.reports_port),
            "PROTEGE_SERVER__DATABASE": self.database,
            "PROTEGE_LEASE__SECONDS": "10",
            # Two servers, each with its runs, share the cores of the smallest machine.
            "PROTEGE_DASK__WORKERS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        }

    @property
    def for_prefect(self) -> dict[str, str]:
        """The same with what Prefect's own commands need."""
        return {
            **self.environment,
            "PREFECT_API_URL": f"{self.ui}/api",
            "PREFECT_API_AUTH_STRING": self.home.auth(),
        }

    def protege(self, *words: str, check: bool = True) -> str:
        """The output of a command of ours."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *words],
            env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=EVENT_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(
        self, path: str, body: Mapping[str, Any] | Sequence[Any] | None = None, method: str = "POST"
    ) -> Any:
        """The answer of Prefect's API."""
        request = urllib.request.Request(
            f"{self.ui}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            self._headers(changes=body is not None),
            method="GET" if body is None else method,
        )

        def texts() -> list[bytes]:
            try:
                with urllib.request.urlopen(request, timeout=EVENT_SECONDS) as answer:
                    return [answer.read()]
            except urllib.error.HTTPError as error:
                # SQLite is locked by another writer; Prefect's own clients try again, too.
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                return []

        (text,) = wait_for(texts, f"the server answers {path}", every_seconds=1)
        return json.loads(text) if text else None

    def _headers(self, *, changes: bool) -> dict[str, str]:
        """Who asks; and for a change, that no foreign page asks it."""
        password = base64.b64encode(self.home.auth().encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {password}"}
        if not changes:
            return headers
        client = str(uuid4())
        token = self.ask(f"csrf-token?client={client}")["token"]
        return {**headers, "Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}

    def configuration(self, options: BillionScale) -> str:
        """A file with these options, as a user has one."""
        path = self.folder / f"options-{time.monotonic_ns()}.yaml"
        path.write_text(yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False))
        return str(path)

    def sections(self, options: BillionScale) -> dict[str, Any]:
        """The options as the parameters of a run."""
        names = type(options).model_fields
        return {name: getattr(options, name).model_dump(mode="json") for name in names}

    def submit(self, options: BillionScale, root: str = "") -> str:
        """Hand a campaign to the server; returns the id of the run."""
        words = ["run", "billion-scale", "--deployment", "--config", self.configuration(options)]
        printed = self.protege(*words, *(["--root", root] if root else []))
        return printed.strip().rsplit("/", 1)[1]

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run, as the server knows it."""
        found: dict[str, Any] = self.ask(f"flow_runs/{run_id}")
        return found

    def state(self, run_id: str) -> str:
        """The name of its state."""
        return str((self.run(run_id).get("state") or {}).get("name", "none"))

    def await_state(self, run_id: str, *names: str) -> str:
        """Wait until the run is in one of these states."""
        ended = {"Completed", "Failed", "Crashed", "Cancelled"}

        def there() -> str:
            state = self.state(run_id)
            if state in ended and state not in names:
                raise AssertionError(f"the run is {state}:\n" + "\n".join(self.log(run_id)[-30:]))
            return state if state in names else ""

        return wait_for(there, f"run {run_id} is {' or '.join(names)}")

    def log(self, run_id: str) -> list[str]:
        """The lines of a run's log."""
        lines = self.ask(
            "logs/filter",
            {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200, "sort": "TIMESTAMP_ASC"},
        )
        return [one["message"] for one in lines]

    def await_line(self, run_id: str, words: str) -> str:
        """The first line of a run's log with these words; lines come a little later than states."""
        found = wait_for(
            lambda: [line for line in self.log(run_id) if words in line], f"{words!r} is logged"
        )
        return found[0]

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by flow/name."""
        found: dict[str, Any] = self.ask(f"deployments/name/{name}")
        return found

    def start(self, name: str, parameters: Mapping[str, Any]) -> str:
        """Start a run of a deployment, as the UI does; returns the id of the run."""
        place = f"deployments/{self.deployment(name)['id']}/create_flow_run"
        return str(
            self.ask(place, {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}})["id"]
        )

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """The runs of a deployment, newest first."""
        wanted = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}}
        found: list[dict[str, Any]] = self.ask(
            "flow_runs/filter", {**wanted, "sort": "EXPECTED_START_TIME_DESC", "limit": 50}
        )
        return found

    def campaigns(self, root: str = "") -> list[Campaign]:
        """The campaigns in the root."""
        return campaigns(open_store(root or self.root))

    def processes(self, *words: str) -> list[psutil.Process]:
        """What runs here with all these words in its command line."""
        found = list(marked_processes(str(self.home.folder)))
        for word in words:
            found = _with_word(word, found)
        return found

    def flow_processes(self, run_id: str) -> list[psutil.Process]:
        """All processes of a flow run: its own, Dask's and the trainings."""
        found = []
        for process in marked_processes(str(self.home.folder)):
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID", "") == run_id:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def flow_process(self, run_id: str) -> psutil.Process:
        """The process in which the flow itself runs: the one that started all others of it."""
        found = self.flow_processes(run_id)
        ids = {one.pid for one in found}
        top = [one for one in found if one.ppid() not in ids]
        assert len(top) == 1, top
        return top[0]

    def ranks(self, run_id: str) -> list[psutil.Process]:
        """The processes of a flow run that train."""
        return _with_word("tasks.train", self.flow_processes(run_id))

    def dask_workers(self, run_id: str) -> list[psutil.Process]:
        """The processes of a flow run that Dask has started for its workers."""
        return _with_word("spawn_main", self.flow_processes(run_id))


def _with_word(word: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those with this word in their command line; a process that has just ended has none."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found
