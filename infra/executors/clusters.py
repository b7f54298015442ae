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

# Dask's resources, of which a worker has one: where some have it, only they do the work for it.
GPU, CPU = "gpu", "cpu"
MIN_WORKER_BYTES = 1 << 30  # which every stage can do with, but for a large network
DASK = {
    # Dask closes for ever a worker that is not back after 15 s, though it is being started again,
    # and then waits without an end; on a busy machine the start alone takes so long.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # Nobody reads it here, and it can stop a worker for ever (profiling.py).
    "distributed.worker.profile.enabled": False,
}
WORKER_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"


def open_client(settings: DaskSettings) -> AbstractContextManager[Any]:
    """A client of the scheduler at the address, or of a new cluster on this machine."""
    if settings.address:
        return scheduler_at(settings)
    return _local_processes(local_workers(settings), gpu_count())


def local_workers(settings: DaskSettings) -> int:
    """How many processes a cluster on this machine has, beside one for each GPU."""
    by_memory = max(1, memory_limit() // MIN_WORKER_BYTES - gpu_count())
    return settings.workers or min(core_count(), by_memory)


@contextmanager
def _local_processes(workers: int, gpus: int) -> Iterator[Any]:
    """Processes for work without networks, and one for each GPU; without a GPU, one kind."""
    import dask
    from distributed import Client, LocalCluster, Security

    environment = {**dask.config.get(WORKER_ENVIRONMENT), **KEEP_MEMORY}
    # Workers that are started later read it then.
    kept = dask.config.set({**DASK, WORKER_ENVIRONMENT: environment})
    # Its protocol runs what it is sent, and other accounts of this machine reach its port.
    keys = Security.temporary()
    with unchanged_environment():
        cluster = LocalCluster(
            n_workers=gpus or workers,
            threads_per_worker=1,
            processes=True,
            resources={GPU: 1} if gpus else None,
            memory_limit=memory_limit() // (gpus + workers),
            host="tls://127.0.0.1",
            security=keys,
            dashboard_address="127.0.0.1:0",
            # What it has to say is said in our words.
            silence_logs=logging.CRITICAL,
        )
    with kept, report_restarts(), cluster, Client(cluster) as client:
        if gpus:
            _add_workers(cluster, workers)
            client.wait_for_workers(gpus + workers)
        # The objects of a worker with torch take seconds to delete; Dask kills it meanwhile.
        client.run(atexit.register, gc.freeze)
        yield client


def _add_workers(cluster: Any, count: int) -> None:
    """Add processes that compute no networks."""
    for _ in range(count):
        for name, spec in cluster.new_worker_spec().items():
            options = {**spec["options"], "resources": {CPU: 1}}
            cluster.worker_spec[name] = {**spec, "options": options}
    cluster.scale(len(cluster.worker_spec))


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
