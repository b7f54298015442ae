"""Clusters: where a Dask cluster comes from.

In: settings. Out: the client of a cluster, for as long as the block lasts. Another kind of cluster
(SSH, Kubernetes) is another function here, and nothing else.

    with open_client(settings) as client: ...
"""

import atexit
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from infra.devices import core_count, gpu_count, memory_limit
from infra.executors.deaths import report_restarts
from infra.executors.remote import scheduler_at
from infra.malloc import KEEP_MEMORY
from infra.settings import DaskSettings

MIN_WORKER_BYTES = 1 << 30  # which every stage can do with, but for a large network
# Dask closes for ever a worker that is not back after 15 s, though it is being started again, and
# then waits without an end; on a busy machine the start alone takes so long.
LOST_WORKER_TIMEOUT = {"distributed.deploy.lost-worker-timeout": "365 days"}
WORKER_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"


def open_client(settings: DaskSettings) -> AbstractContextManager[Any]:
    """A client of the scheduler at the address, or of a new cluster on this machine."""
    if settings.address:
        return scheduler_at(settings)
    return _local_processes(local_workers(settings))


def local_workers(settings: DaskSettings) -> int:
    """How many processes a cluster on this machine has."""
    by_memory = max(1, memory_limit() // MIN_WORKER_BYTES)
    return settings.workers or gpu_count() or min(core_count(), by_memory)


@contextmanager
def _local_processes(workers: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster, Security

    environment = {**dask.config.get(WORKER_ENVIRONMENT), **KEEP_MEMORY}
    # Workers that are started later read it then.
    kept = dask.config.set({**LOST_WORKER_TIMEOUT, WORKER_ENVIRONMENT: environment})
    # Its protocol runs what it is sent, and other accounts of this machine reach its port.
    keys = Security.temporary()
    with unchanged_environment():
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="tls://127.0.0.1",
            security=keys,
            dashboard_address="127.0.0.1:0",
            # What it has to say is said in our words.
            silence_logs=logging.CRITICAL,
        )
    with kept, report_restarts(), cluster, Client(cluster) as client:
        # The objects of a worker with torch take seconds to delete; Dask kills it meanwhile.
        client.run(atexit.register, gc.freeze)
        yield client


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """Restore the environment at the end: Dask leaves in it what is meant for its workers.

    These are one thread, with which a training takes twice as long.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
