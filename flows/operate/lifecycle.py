"""Up and down: starts the local server with all that belongs to it, stops it, says how it is.

In: settings and the home folder. Out: lines for people. All of it may be repeated, and goes on
after a crash half-way: what an earlier supervisor has left behind is ended first.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.engine.environment import NO_CALLS_HOME
from flows.operate.csp import add_policy
from flows.operate.state import (
    HOST,
    SUPERVISOR_VARIABLE,
    ServerConfig,
    ServerState,
    marked_processes,
)
from flows.operate.supervisor import GRACE_SECONDS, healthy
from infra.errors import ProtegeError
from infra.lease import stop_processes
from infra.settings import Settings
from infra.store import open_store

START_SECONDS = 120
STOP_SECONDS = 60
TAIL_LINES = 15


def config_of(settings: Settings) -> ServerConfig:
    """What these settings ask for, with absolute places."""
    return ServerConfig(
        port=settings.server.port,
        reports_port=settings.server.reports_port,
        database=_driver(settings.server.database),
        root=open_store(settings.root).uri,
        notify=settings.server.notify,
        folder=str(Path.cwd()),
    )


def up(state: ServerState, config: ServerConfig) -> Iterator[str]:
    """Start what does not run yet, and register everything. Raises ProtegeError."""
    with state.locked():
        if state.supervisor() is None:
            _end_leftovers(state)
            _check_free(config)
            state.save_config(config)
            state.registered.unlink(missing_ok=True)
            _start_supervisor(state)
        elif state.config() != config:
            raise ProtegeError(_differs(state, config))
        yield f"starting the server on {_named(config.database)} ..."
        use_server(state, config)
        # Imported while the server starts: both take seconds.
        from flows.operate.register import register

        answer = f"the server did not answer at {config.ui}"
        _await(lambda: healthy(config), answer, state.log("server"))
        add_policy(state.ui, config.ui)
        count = register(config.folder, config.notify)
        state.registered.touch()
        _await(lambda: "worker" in state.processes(), "no worker started", state.log("supervisor"))
        yield f"{count} deployments, and a worker that runs them in {config.folder}"
        yield f"outputs   {config.root}"
        yield f"reports   {config.reports}"
        yield f"logs      {state.log('server').parent}"
        yield f"UI        {config.ui}"
        yield f"Prefect's own commands want: export PREFECT_API_URL={config.api}"


def down(state: ServerState) -> Iterator[str]:
    """Stop everything. Runs at work end as Crashed, and can be retried after the next `up`."""
    with state.locked():
        supervisor = state.supervisor()
        if supervisor is None and not marked_processes(str(state.folder)):
            yield "nothing is up"
            return
        if supervisor is not None:
            stop_processes([supervisor], STOP_SECONDS)
        _end_leftovers(state)
        yield "all is down; the database, the logs and the outputs stay"


def status(state: ServerState) -> Iterator[str]:
    """How it is: processes, addresses, and runs at work."""
    config = state.config()
    if config is None or state.supervisor() is None:
        left = len(marked_processes(str(state.folder)))
        yield f"down, but {left} processes are left: `protege down`" if left else "down"
        return
    yield f"{'up' if healthy(config) else 'starting, or in trouble'}: {config.ui}"
    yield f"  database  {_named(config.database)}"
    yield f"  outputs   {config.root}"
    yield f"  reports   {config.reports}"
    for name, process in state.processes().items():
        alive = process.find() is not None
        yield f"  {name:<9} {'process ' + str(process.pid) if alive else 'not running'}"
    if healthy(config):
        use_server(state, config)
        from flows.operate.runs import at_work

        runs = at_work()
        yield f"  runs      {len(runs)} at work"
        yield from (f"    {run.name}: {run.state.name if run.state else ''}" for run in runs)
    yield f"  logs      {state.log('server').parent}"


def use_server(state: ServerState, config: ServerConfig) -> None:
    """Point Prefect, which is not loaded yet, to this server."""
    variables = {"PREFECT_API_URL": config.api, "PREFECT_HOME": str(state.prefect), **NO_CALLS_HOME}
    for variable, value in variables.items():
        os.environ.setdefault(variable, value)


def use_running_server() -> bool:
    """Point Prefect to the server that is up, unless the user has named another one."""
    if "PREFECT_API_URL" in os.environ:
        return True
    state = ServerState()
    config = state.config()
    if config is None or state.supervisor() is None or not healthy(config):
        return False
    use_server(state, config)
    os.environ.setdefault("PROTEGE_SERVER__REPORTS_URL", config.reports)
    return True


def _start_supervisor(state: ServerState) -> None:
    environment = dict(os.environ)
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


def _await(happened: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            raise ProtegeError(
                f"{what} within {START_SECONDS} s. The end of {log}:\n" + "\n".join(tail)
            )
        time.sleep(0.2)


def _end_leftovers(state: ServerState) -> None:
    """End what a supervisor that was killed has left behind."""
    stop_processes(marked_processes(str(state.folder)), GRACE_SECONDS)
    state.clear_processes()


def _check_free(config: ServerConfig) -> None:
    for port, option in (
        (config.port, "PROTEGE_SERVER__PORT"),
        (config.reports_port, "PROTEGE_SERVER__REPORTS_PORT"),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise ProtegeError(
                    f"port {port} is in use by another program: stop it, or set {option}"
                ) from None


def _driver(database: str) -> str:
    """A PostgreSQL address as people write it, with the driver that Prefect wants."""
    for scheme in ("postgresql://", "postgres://"):
        if database.startswith(scheme):
            return "postgresql+asyncpg://" + database.removeprefix(scheme)
    if database and not database.startswith("postgresql+asyncpg://"):
        raise ProtegeError(
            f"PROTEGE_SERVER__DATABASE={database}: write postgresql://user:password@host/name"
        )
    return database


def _named(database: str) -> str:
    """The database without its password."""
    return f"PostgreSQL at {database.rsplit('@', 1)[-1]}" if database else "SQLite"


def _differs(state: ServerState, config: ServerConfig) -> str:
    now = state.config()
    assert now is not None, "a supervisor runs, so it was configured"
    pairs = [
        f"{name} is {_shown(name, getattr(now, name))}, not {_shown(name, getattr(config, name))}"
        for name in ServerConfig.__dataclass_fields__
        if getattr(now, name) != getattr(config, name)
    ]
    return f"protege is up with other settings ({'; '.join(pairs)}): `protege down` first"


def _shown(name: str, value: object) -> str:
    return _named(str(value)) if name == "database" else repr(value)
