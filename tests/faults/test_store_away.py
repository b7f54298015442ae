"""A training whose store goes away and comes back: a real S3 server that is stopped and started."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from infra.store import open_store
from tasks.gather import gather
from tasks.shard import ShardOptions, shard
from tasks.train import train
from tests.builders.interrupted import Interrupted
from tests.builders.trainings import CLASSES
from tests.faults.test_training import OFTEN
from tests.test_train import PROCESSES


@dataclass
class Server:
    """An S3 server of its own, whose objects outlive it."""

    port: int = 0

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs to use it."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


def test_training_goes_on_while_its_store_is_away(
    s3: str, server: Server, tmp_path: Path, pictures: Path
) -> None:
    """The other server of these tests has the same objects, and is never away."""
    root = f"{s3}/{tmp_path.name}"
    options = ShardOptions(source=str(pictures / "labelled"), labelled=True)
    lessons = gather(open_store(root), shard(open_store(root), options))
    with Interrupted(
        root, lessons.uri, OFTEN, tmp_path / "t", environment=server.environment
    ) as training:
        training.wait_for_step(1)
        server.stop()
        training.wait_for_text("does not answer")
        server.start()
        assert training.end() == 0
        assert not training.left()
        assert "Traceback" not in training.said()
    output = train(open_store(root), lessons, OFTEN, classes=CLASSES, processes=PROCESSES)
    assert output.reused
    disk = open_store(str(tmp_path / "root"))
    here = gather(disk, shard(disk, options))
    undisturbed = train(disk, here, OFTEN, classes=CLASSES, processes=PROCESSES)
    assert output.weights == undisturbed.weights
