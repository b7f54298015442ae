"""Fixtures that several tests share: small image folders, a Dask cluster, an S3 server.

Nothing here is a stand-in: the cluster has processes, the S3 server speaks the protocol on
loopback, Prefect runs on its own database in a temporary folder.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tests.builders.waiting import EVENT_SECONDS, TEST_SECONDS

# Set before anything imports Prefect or torch: tests must not touch the user's own Prefect.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="protege-prefect-")
os.environ.pop("PREFECT_API_URL", None)
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
# What its servers say at their end would come after pytest has closed its streams.
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "WARNING"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = str(round(EVENT_SECONDS))
# Processes that we start do not look into the working folder, where the modules of tests lie.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
# Threads that spin while they wait make a small network many times slower on shared cores.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import pytest
from hypothesis import HealthCheck, settings

from infra.executors import Cluster
from infra.settings import DaskSettings
from infra.store import Store, open_store
from tasks.contract import Output
from tasks.gather import gather
from tasks.shard import ShardOptions, shard
from tests.builders.pictures import write_sources

if TYPE_CHECKING:
    from tests.operate.served import Served

# A shell that starts the tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long on a busy machine is no error.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

DATABASES = ["sqlite", "postgres"]


@pytest.fixture
def root(tmp_path: Path) -> Store:
    """An empty root for outputs on local disk."""
    return open_store(str(tmp_path / "root"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Dask cluster of two processes."""
    with Cluster(DaskSettings(workers=2)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket on a real S3 API on loopback."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="protege")
        yield "s3://protege"
    server.stop()


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "disk":
        return open_store(str(tmp_path / "folder"))
    return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}-{time.monotonic_ns()}")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small pictures in three colours: labelled, pile and test."""
    folder = tmp_path_factory.mktemp("pictures")
    write_sources(folder, seed=0, labelled=4, pile=20, test=5)
    return folder


@pytest.fixture
def lessons(root: Store, pictures: Path) -> Output:
    """The labelled pictures, shuffled for a training."""
    return gather(root, shard(root, ShardOptions(source=f"{pictures}/labelled", labelled=True)))


@pytest.fixture(scope="session")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Served"]:
    """The server on a database, started once by `protege up` for all tests of it.

    Those in the browser come first, because they want it as a new user has it.
    """
    from tests.operate.postgres import postgres
    from tests.operate.served import server

    folder = tmp_path_factory.mktemp(request.param)
    with (
        postgres() if request.param == "postgres" else nullcontext("") as database,
        server(folder, database) as served,
    ):
        yield served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A limit for every test that only a hang reaches."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))


def pytest_addoption(parser: pytest.Parser) -> None:
    """One at a time: servers on both at once starve two cores."""
    parser.addoption(
        "--database", choices=DATABASES, help="Only the tests of the server on this database."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the server run on every database, or on the one that is asked for."""
    if "served" in metafunc.fixturenames:
        only = metafunc.config.getoption("--database")
        chosen = [only] if only else DATABASES
        metafunc.parametrize("served", chosen, indirect=True, scope="session")
