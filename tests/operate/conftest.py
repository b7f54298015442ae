"""A real server on each database, started once by `protege up`, and a campaign that it has run."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.pictures import write_sources
from tests.operate.postgres import postgres
from tests.operate.served import Served, free_port


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def data(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of this server's own, which may grow."""
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder, seed=3, labelled=20, pile=20, test=5)
    return folder


@pytest.fixture(scope="session")
def finished(served: Served, data: Path) -> tuple[str, str]:
    """Two runs of one campaign that were started together, on two deployments, and completed."""
    sections = served.sections(tiny(data))
    runs = [served.start(f"billion-scale/{name}", sections) for name in ("default", "digits")]
    for run_id in runs:
        served.await_state(run_id, "Completed")
    return runs[0], runs[1]


@pytest.fixture(scope="session")
def campaign(served: Served, data: Path, finished: tuple[str, str]) -> Campaign:
    """The campaign of these runs."""
    places = {str(data / "pile")}
    return next(one for one in served.campaigns() if one.options["pile"]["source"] in places)
