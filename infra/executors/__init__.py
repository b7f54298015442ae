"""Executors: who runs work, in this process or on a cluster.

with Cluster(Settings()) as executor:
for receipt in executor.run(score_one, shards): ...
"""

from infra.executors.base import Executor, Failures, Held, too_many
from infra.executors.dask import Cluster
from infra.executors.local import Inline, Threads

__all__ = [
    "Cluster",
    "Executor",
    "Failures",
    "Held",
    "Inline",
    "Threads",
    "too_many",
]
