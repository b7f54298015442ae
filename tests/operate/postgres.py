"""Postgres: a real PostgreSQL on loopback, in a temporary folder, for as long as it is needed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.builders.waiting import EVENT_SECONDS
from tests.operate.served import free_port


@contextmanager
def postgres() -> Iterator[str]:
    """Start one; yields the address of a new database whose owner may create extensions."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    assert programs is not None, "Debian's package postgresql is missing: make test-operate has it"
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="protege-postgres-"))
    port = free_port()
    if user == "postgres":
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run(
            command,
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            timeout=EVENT_SECONDS,
        )

    data, log = str(folder / "data"), str(folder / "log")
    run(f"{programs}/initdb", "-D", data, "-U", "protege", "-A", "trust", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c max_connections=200"
    run(f"{programs}/pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        run(f"{programs}/createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "protege", "runs")
        yield f"postgresql://protege:trusted@127.0.0.1:{port}/runs"
    finally:
        run(f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def recreate(address: str) -> None:
    """Drop the database, with all that is in it, and make it anew."""
    import asyncio

    import asyncpg

    async def run() -> None:
        place = address.rsplit("/", 1)[0]
        connection = await asyncpg.connect(f"{place}/postgres")
        await connection.execute("DROP DATABASE runs WITH (FORCE)")
        await connection.execute("CREATE DATABASE runs")
        await connection.close()

    asyncio.run(run())
