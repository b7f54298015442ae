"""Lifecycle: starts and stops the local server with all that belongs to it, and shows its state.

In: settings and the state folder. Out: lines for the terminal. Every function may be repeated, also
after a crash half-way: processes that a killed supervisor has left behind are stopped first.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows.engine.environment import NO_CALLS_HOME
from flows.operate.pages import prepare_pages
from flows.operate.state import (
    HOST,
    SUPERVISOR_VARIABLE,
    ServerConfig,
    ServerState,
    marked_processes,
)
from flows.operate.supervisor import GRACE_SECONDS, is_healthy
from infra.errors import ProtegeError
from infra.lease import stop_processes
from infra.safe_path import SAFE_PATH
from infra.settings import Settings
from infra.store import open_store

START_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.2
TAIL_LINES = 15
LABEL_WIDTH = 14
DRIVER = "postgresql+asyncpg"
POSTGRES = ("postgresql", "postgres", DRIVER)


def config_of(settings: Settings) -> ServerConfig:
    """The configuration that these settings describe, with absolute addresses."""
    return ServerConfig(
        port=settings.server.port,
        reports_port=settings.server.reports_port,
        database=_database_url(settings.server.database),
        root=open_store(settings.root).uri,
        notify=settings.server.notify,
        folder=str(Path.cwd()),
    )


def up(state: ServerState, config: ServerConfig) -> Iterator[str]:
    """Start what does not run yet, and register everything. Raises ProtegeError."""
    with state.locked():
        if state.supervisor() is None:
            _stop_leftovers(state)
            _check_ports(config)
            state.save_config(config)
            state.registered.unlink(missing_ok=True)
            _start_supervisor(state)
        elif state.config() != config:
            raise ProtegeError(_describe_difference(state, config))
        yield f"starting the server on {_database_label(config.database)} ..."
        use_server(state, config)
        # Imported while the server starts: both take seconds.
        from flows.operate.register import register

        no_answer = f"the server did not answer at {config.ui}"
        _wait_until(lambda: is_healthy(config), no_answer, state.log("server"))
        prepare_pages(state.ui, config.ui)
        count = register(config.folder, config.notify)
        state.registered.touch()
        no_worker = "no worker started"
        _wait_until(lambda: "worker" in state.processes(), no_worker, state.log("supervisor"))
        yield f"{count} deployments, and a worker that runs them in {config.folder}"
        yield _line("outputs", config.root)
        yield _line("reports", config.reports)
        yield _line("logs", state.log("server").parent)
        yield _line("UI", state.link(config))
        yield "Prefect's own commands need:"
        yield f"    export PREFECT_API_URL={config.api}"
        yield f'    export PREFECT_API_AUTH_STRING="$(cat {state.auth_file})"'


def down(state: ServerState) -> Iterator[str]:
    """Stop everything. Active runs end as Crashed, and can be retried after the next `up`."""
    with state.locked():
        supervisor = state.supervisor()
        if supervisor is None and not marked_processes(str(state.folder)):
            yield "nothing is up"
            return
        if supervisor is not None:
            stop_processes([supervisor], STOP_TIMEOUT_SECONDS)
        _stop_leftovers(state)
        yield "all is down; the database, the logs and the outputs stay"


def status(state: ServerState) -> Iterator[str]:
    """The state of the server: addresses, processes, and active runs."""
    config = state.config()
    if config is None or state.supervisor() is None:
        count = len(marked_processes(str(state.folder)))
        yield f"down, but {count} processes are left: `protege down`" if count else "down"
        return
    healthy = is_healthy(config)
    yield f"{'up' if healthy else 'starting, or in trouble'}: {state.link(config)}"
    yield "  " + _line("database", _database_label(config.database))
    yield "  " + _line("outputs", config.root)
    yield "  " + _line("reports", config.reports)
    for name, process in state.processes().items():
        running = process.find() is not None
        yield "  " + _line(name, f"process {process.pid}" if running else "not running")
    if healthy:
        use_server(state, config)
        from flows.operate.runs import active_runs

        runs = active_runs()
        yield "  " + _line("runs", f"{len(runs)} active")
        yield from (f"    {run.name}: {run.state.name if run.state else ''}" for run in runs)
    yield "  " + _line("logs", state.log("server").parent)


def is_up(state: ServerState) -> bool:
    """Whether the server runs and answers."""
    config = state.config()
    return config is not None and state.supervisor() is not None and is_healthy(config)


def use_server(state: ServerState, config: ServerConfig) -> None:
    """Let Prefect, which is not loaded yet, use this server."""
    variables = {
        "PREFECT_API_URL": config.api,
        "PREFECT_API_AUTH_STRING": state.auth(),
        "PREFECT_HOME": str(state.prefect),
        **NO_CALLS_HOME,
    }
    for variable, value in variables.items():
        os.environ.setdefault(variable, value)


def use_running_server() -> bool:
    """Let Prefect use the server that is up, unless the user has named another one."""
    state = ServerState()
    config = state.config()
    named = os.environ.get("PREFECT_API_URL")
    if named:
        # Who has named this one need not say its password.
        if config is not None and named == config.api:
            use_server(state, config)
        return True
    if config is None or not is_up(state):
        return False
    use_server(state, config)
    os.environ.setdefault("PROTEGE_SERVER__REPORTS_URL", config.reports)
    return True


def _line(label: str, value: object) -> str:
    return f"{label:<{LABEL_WIDTH}}{value}"


def _start_supervisor(state: ServerState) -> None:
    environment = {**os.environ, **SAFE_PATH}
    environment.pop(SUPERVISOR_VARIABLE, None)
    state.log("supervisor").parent.mkdir(parents=True, exist_ok=True)
    with state.log("supervisor").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "flows.operate.supervisor", str(state.folder)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _wait_until(condition: Callable[[], bool], failure: str, log: Path) -> None:
    """Wait for the condition. Raises ProtegeError with the end of the log when it stays false."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            raise ProtegeError(
                f"{failure} within {START_TIMEOUT_SECONDS} s. The end of {log}:\n" + "\n".join(tail)
            )
        time.sleep(POLL_SECONDS)


def _stop_leftovers(state: ServerState) -> None:
    """Stop what a supervisor that was killed has left behind."""
    stop_processes(marked_processes(str(state.folder)), GRACE_SECONDS)
    state.clear_processes()


def _check_ports(config: ServerConfig) -> None:
    ports = {
        "PROTEGE_SERVER__PORT": config.port,
        "PROTEGE_SERVER__REPORTS_PORT": config.reports_port,
    }
    for variable, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise ProtegeError(
                    f"port {port} is in use by another program: stop it, or set {variable}"
                ) from None


def _database_url(database: str) -> str:
    """A PostgreSQL address as people write it, with the driver that Prefect needs."""
    scheme, found, place = database.partition("://")
    if not database:
        return ""
    if not found or scheme not in POSTGRES:
        raise ProtegeError(
            f"PROTEGE_SERVER__DATABASE begins with {_scheme_label(database)}: write "
            "postgresql://user:password@host/name"
        )
    _check_place(f"{DRIVER}://{place}")
    return f"{DRIVER}://{place}"


def _check_place(database: str) -> None:
    """Raise ProtegeError for an address that is read in another way than it is meant."""
    parts = urlsplit(database)
    try:
        unclear = "@" in parts.path or parts.port == 0
    except ValueError:
        unclear = True
    if unclear:
        raise ProtegeError(
            "PROTEGE_SERVER__DATABASE has no clear host and port: write postgresql://"
            "user:password@host/name, and in the password '/' as %2F, '@' as %40, ':' as %3A"
        )


def _scheme_label(database: str) -> str:
    """What an address begins with; of what is none, nothing, for it may be a password."""
    scheme, found, _ = database.partition("://")
    return f"{scheme}://" if found and scheme.replace("+", "").isalnum() else "no scheme"


def _database_label(database: str) -> str:
    """The database without its password, and without what else may hold one."""
    if not database:
        return "SQLite"
    parts = urlsplit(database)
    port = f":{parts.port}" if parts.port else ""
    return f"PostgreSQL at {parts.hostname or 'this machine'}{port}{parts.path}"


def _describe_difference(state: ServerState, config: ServerConfig) -> str:
    running = state.config()
    assert running is not None, "a supervisor runs, so it was configured"

    def label(config: ServerConfig, field: str) -> str:
        value = getattr(config, field)
        return _database_label(value) if field == "database" else repr(value)

    differences = [
        f"{field} is {label(running, field)}, not {label(config, field)}"
        for field in ServerConfig.__dataclass_fields__
        if getattr(running, field) != getattr(config, field)
    ]
    return f"protege is up with other settings ({'; '.join(differences)}): `protege down` first"
