"""Up and down: starts the local server with all that belongs to it, stops it, says how it is.

In: settings and the home folder. Out: lines for people. All of it may be repeated, and goes on
after a crash half-way: what an earlier keeper has left behind is ended first.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from flows.operate.csp import confine
from flows.operate.environment import NO_CALLS_HOME
from flows.operate.state import HOST, MARK, Asked, Home, marked
from flows.operate.supervisor import end, healthy
from infra.errors import ProtegeError
from infra.settings import Settings
from infra.store import open_store

START_SECONDS = 120
STOP_SECONDS = 60
TAIL_LINES = 15


def asked_by(settings: Settings) -> Asked:
    """What these settings ask for, with absolute places."""
    return Asked(
        port=settings.port,
        pages_port=settings.pages_port,
        database=_driver(settings.database),
        root=open_store(settings.root).uri,
        notify=settings.notify,
        folder=str(Path.cwd()),
    )


def up(home: Home, asked: Asked) -> Iterator[str]:
    """Start what does not run yet, and register everything. Raises ProtegeError."""
    with home.locked():
        if home.keeper() is None:
            _end_leftovers(home)
            _check_free(asked)
            home.ask(asked)
            home.registered.unlink(missing_ok=True)
            _start_keeper(home)
        elif home.asked() != asked:
            raise ProtegeError(_differs(home, asked))
        yield f"starting the server on {_named(asked.database)} ..."
        use_server(home, asked)
        # Imported while the server starts: both take seconds.
        from flows.operate.register import register

        answer = f"the server did not answer at {asked.ui}"
        _await(lambda: healthy(asked), answer, home.log("server"))
        confine(home.ui, asked.ui)
        count = register(asked.folder, asked.notify)
        home.registered.touch()
        _await(lambda: "worker" in home.processes(), "no worker started", home.log("keeper"))
        yield f"{count} deployments, and a worker that runs them in {asked.folder}"
        yield f"outputs   {asked.root}"
        yield f"reports   {asked.pages}"
        yield f"logs      {home.log('server').parent}"
        yield f"UI        {asked.ui}"
        yield f"Prefect's own commands want: export PREFECT_API_URL={asked.api}"


def down(home: Home) -> Iterator[str]:
    """Stop everything. Runs at work end as Crashed, and can be retried after the next `up`."""
    with home.locked():
        keeper = home.keeper()
        if keeper is None and not marked(str(home.folder)):
            yield "nothing is up"
            return
        if keeper is not None:
            keeper.send_signal(signal.SIGTERM)
            try:
                keeper.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                keeper.kill()
        _end_leftovers(home)
        yield "all is down; the database, the logs and the outputs stay"


def status(home: Home) -> Iterator[str]:
    """How it is: processes, addresses, and runs at work."""
    asked = home.asked()
    if asked is None or home.keeper() is None:
        left = len(marked(str(home.folder)))
        yield f"down, but {left} processes are left: `protege down`" if left else "down"
        return
    yield f"{'up' if healthy(asked) else 'starting, or in trouble'}: {asked.ui}"
    yield f"  database  {_named(asked.database)}"
    yield f"  outputs   {asked.root}"
    yield f"  reports   {asked.pages}"
    for name, process in home.processes().items():
        alive = process.find() is not None
        yield f"  {name:<9} {'process ' + str(process.pid) if alive else 'not running'}"
    if healthy(asked):
        use_server(home, asked)
        from flows.operate.runs import at_work

        runs = at_work()
        yield f"  runs      {len(runs)} at work"
        yield from (f"    {run.name}: {run.state.name if run.state else ''}" for run in runs)
    yield f"  logs      {home.log('server').parent}"


def use_server(home: Home, asked: Asked) -> None:
    """Point Prefect, which is not loaded yet, to this server."""
    told = {"PREFECT_API_URL": asked.api, "PREFECT_HOME": str(home.prefect), **NO_CALLS_HOME}
    for variable, value in told.items():
        os.environ.setdefault(variable, value)


def use_running_server() -> bool:
    """Point Prefect to the server that is up, unless the user has named another one."""
    if "PREFECT_API_URL" in os.environ:
        return True
    home = Home()
    asked = home.asked()
    if asked is None or home.keeper() is None or not healthy(asked):
        return False
    use_server(home, asked)
    os.environ.setdefault("PROTEGE_PAGES", asked.pages)
    return True


def _start_keeper(home: Home) -> None:
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    home.log("keeper").parent.mkdir(parents=True, exist_ok=True)
    with home.log("keeper").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "flows.operate.supervisor", str(home.folder)],
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


def _end_leftovers(home: Home) -> None:
    """End what a keeper that was killed has left behind."""
    end(marked(str(home.folder)))
    home.forget()


def _check_free(asked: Asked) -> None:
    for port, option in ((asked.port, "PROTEGE_PORT"), (asked.pages_port, "PROTEGE_PAGES_PORT")):
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
            f"PROTEGE_DATABASE={database}: write postgresql://user:password@host/name"
        )
    return database


def _named(database: str) -> str:
    """The database without its password."""
    return f"PostgreSQL at {database.rsplit('@', 1)[-1]}" if database else "SQLite"


def _differs(home: Home, asked: Asked) -> str:
    now = home.asked()
    assert now is not None, "a keeper runs, so it was asked"
    pairs = [
        f"{name} is {_shown(name, getattr(now, name))}, not {_shown(name, getattr(asked, name))}"
        for name in Asked.__dataclass_fields__
        if getattr(now, name) != getattr(asked, name)
    ]
    return f"protege is up with other settings ({'; '.join(pairs)}): `protege down` first"


def _shown(name: str, value: object) -> str:
    return _named(str(value)) if name == "database" else repr(value)
