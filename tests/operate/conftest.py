"""A campaign that the server has run, over sources of its own."""

from pathlib import Path

import pytest

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.pictures import write_sources
from tests.operate.served import Served


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
