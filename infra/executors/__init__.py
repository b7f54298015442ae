"""Executors: who runs the work of a stage, in this process or on a cluster.

base.py         the interface, and the rule for failures
local.py        this process: one item after the other, or in threads
dask.py         a Dask cluster
clusters.py     where a Dask cluster comes from
remote.py       the one at an address
profiling.py    what can stop its workers for ever
worker_logs.py  what its workers warn of
deaths.py       what is said of workers that were killed

    with open_executor(Settings()) as executor:
        for receipt in executor.run(score_shard, shards): ...
"""

from contextlib import AbstractContextManager

from infra.devices import core_count
from infra.executors.base import Executor, Failures, Handle, too_many
from infra.executors.clusters import local_workers
from infra.executors.dask import Cluster
from infra.executors.local import Inline, Threads
from infra.settings import Settings

__all__ = [
    "Cluster",
    "Executor",
    "Failures",
    "Handle",
    "Inline",
    "Threads",
    "local_workers",
    "open_executor",
    "too_many",
]


def open_executor(settings: Settings) -> AbstractContextManager[Executor]:
    """The executor that the settings name; it is closed at the end of a `with` block."""
    match settings.executor:
        case "dask":
            return Cluster(settings.dask)
        case "threads":
            return Threads(core_count())
        case "inline":
            return Inline()
