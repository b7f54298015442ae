"""Clusters: where a Dask cluster comes from.

In: settings. Out: the client of a cluster, for as long as the block lasts. Another kind of cluster
(SSH, Kubernetes) is another function here, and nothing else.

    with open_client(settings) as client: ...
"""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.devices import core_count, gpu_count
from infra.errors import ProtegeError
from infra.settings import DaskSettings


@contextmanager
def open_client(settings: DaskSettings) -> Iterator[Any]:
    """A client of the scheduler at the address, else of a cluster of this machine."""
    clients = _at_address(settings.address) if settings.address else _local(settings.workers)
    with clients as client:
        yield client


@contextmanager
def _at_address(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise ProtegeError(
            f"no Dask scheduler answers at PROTEGE_DASK__ADDRESS={address}: {error}"
        ) from error
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    """Processes of this machine: one for each GPU, else for each core."""
    from distributed import Client, LocalCluster

    with unchanged_environment():
        cluster = LocalCluster(
            n_workers=workers or gpu_count() or core_count(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        )
    client = Client(cluster)
    # A worker with torch takes seconds to take itself to pieces, and is then killed.
    client.run(atexit.register, gc.freeze)
    try:
        yield client
    finally:
        client.close()
        cluster.close()


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """Put the environment back: Dask leaves in it what is meant for its workers.

    One thread, and a trimming of memory at every turn, which makes a training twice as slow.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
