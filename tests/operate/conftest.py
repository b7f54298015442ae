"""A real server on each database, started once by `protege up`, for the tests of one database."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.operate.postgres import postgres
from tests.operate.served import Served, free_port


@pytest.fixture(
    scope="session",
    # The tests of one database share a process, and so a server; the two run side by side.
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("sqlite", "postgres")
    ],
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The server, up; everything that it has started is gone afterwards."""
    with postgres() if request.param == "postgres" else nullcontext("") as database:
        folder: Path = tmp_path_factory.mktemp(request.param)
        one = Served(folder, free_port(), free_port(), database)
        try:
            one.protege("up")
            yield one
        finally:
            one.protege("down", check=False)
        assert not one.processes(), "`protege down` leaves nothing behind"
