"""Executors: who runs work, in this process or on a cluster.

with Cluster(Settings()) as executor:
for receipt in executor.run(score_one, shards): ...
"""

from infra.executors.base import Executor, Failures, Handle, too_many
from infra.executors.dask import Cluster
from infra.executors.local import Inline, Threads

__all__ = [
    "Cluster",
    "Executor",
    "Failures",
    "Handle",
    "Inline",
    "Threads",
    "too_many",
]
