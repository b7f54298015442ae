"""Clusters: who can reach a scheduler, and what is said of one that cannot be used."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.comm.core import connect

from infra.errors import ProtegeError
from infra.executors import Cluster, clusters, profiling, remote
from infra.executors.remote import check_encrypted, check_versions, scheduler_at
from infra.settings import DaskSettings


def test_local_scheduler_answers_only_who_has_its_keys(cluster: Cluster) -> None:
    """Its port is open to every account of the machine, and its protocol runs what it is sent."""
    address = cluster.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    workers = cluster.client.nthreads()
    assert all(worker.startswith("tls://127.0.0.1:") for worker in workers)
    # A Client that finds nobody is left to the garbage collector, which can wait for itself.
    for stranger in (address, address.replace("tls", "tcp"), *workers):
        with pytest.raises((OSError, TypeError, ValueError)):
            asyncio.run(connect(stranger, timeout=0.5))


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.1:8786", "scheduler:8786", "10.0.0.1:8786", "ws://host:1", "tcp://127.evil:1"],
)
def test_plain_address_of_another_machine_must_be_allowed(address: str) -> None:
    with pytest.raises(ProtegeError, match="PROTEGE_DASK__PLAIN=true"):
        check_encrypted(DaskSettings(address=address))
    check_encrypted(DaskSettings(address=address, plain=True))


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786", "tls://host:1", "wss://host:1"],
)
def test_encrypted_and_own_addresses_are_used(address: str) -> None:
    check_encrypted(DaskSettings(address=address))


@contextmanager
def plain_scheduler(workers: int) -> Iterator[Any]:
    """A scheduler of this machine, as somebody else has started it."""
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


def test_scheduler_without_workers_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with plain_scheduler(0) as cluster, caplog.at_level(logging.WARNING):
        with scheduler_at(DaskSettings(address=cluster.scheduler_address)):
            pass
        assert f"{cluster.scheduler_address} has no workers" in caplog.text


@pytest.mark.parametrize("package", ["pyarrow", "pillow", "simplejpeg"])
def test_workers_with_other_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    with plain_scheduler(1) as cluster, Client(cluster) as client:
        check_versions(client)
        found = client.get_versions(packages=list(remote.PACKAGES))
        (address,) = found["workers"]
        assert all(found["workers"][address]["packages"][name] for name in remote.COMPARED)
        found["workers"][address]["packages"][package] = "0.1"
        monkeypatch.setattr(client, "get_versions", lambda packages: found)
        with pytest.raises(ProtegeError, match=f"{package} is 0.1 on {address} and .* here"):
            check_versions(client)


def test_scheduler_that_does_not_answer_is_named() -> None:
    settings = DaskSettings(address="nonsense://127.0.0.1:1", plain=True)
    with pytest.raises(ProtegeError, match="no Dask scheduler answers at"), scheduler_at(settings):
        pass


def pid(_item: int) -> int:
    time.sleep(0.01)  # so that nobody does everything
    return os.getpid()


def resources_of(cluster: Cluster) -> list[dict[str, float]]:
    workers = cluster.client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted((dict(worker["resources"]) for worker in workers), key=str)


def test_machine_with_gpus_has_workers_for_networks_and_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clusters, "gpu_count", lambda: 1)
    with Cluster(DaskSettings(workers=2)) as cluster:
        assert resources_of(cluster) == [{"cpu": 1}, {"cpu": 1}, {"gpu": 1}]
        assert (cluster.workers, cluster.on_gpus().workers) == (2, 1)
        networks = set(cluster.on_gpus().run(pid, range(40)))
        others = set(cluster.run(pid, range(40)))
        assert len(networks) == 1
        assert 1 <= len(others) <= 2
        assert not networks & others
        total = cluster.result(cluster.reduce(pid, max, range(20)))
        assert total in others


def test_without_pools_everybody_does_everything(cluster: Cluster) -> None:
    assert cluster.workers == cluster.on_gpus().workers
    assert set(cluster.on_gpus().run(pid, range(60))) == set(cluster.run(pid, range(60)))


def test_worker_of_a_pool_that_was_killed_is_replaced_in_its_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clusters, "gpu_count", lambda: 1)
    with Cluster(DaskSettings(workers=1)) as cluster:
        (before,) = set(cluster.on_gpus().run(pid, range(4)))
        os.kill(before, signal.SIGKILL)
        (after,) = set(cluster.on_gpus().run(pid, range(4)))
        assert after != before
        assert after not in set(cluster.run(pid, range(10)))


def profiles(dask_worker: Any) -> bool:
    return "profile" in dask_worker.periodic_callbacks


def test_no_worker_is_profiled_where_that_can_stop_it_for_ever(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(cluster.client.run(profiles).values())
    profiled = dask.config.set({"distributed.worker.profile.enabled": True})
    with profiled, plain_scheduler(1) as own:
        settings = DaskSettings(address=own.scheduler_address)
        monkeypatch.setattr(profiling, "FIRST_SAFE_PYTHON", (3, 0))
        with scheduler_at(settings) as client:
            assert all(client.run(profiles).values())
        monkeypatch.setattr(profiling, "FIRST_SAFE_PYTHON", (9, 0))
        with scheduler_at(settings) as client:
            assert not any(client.run(profiles).values())
            own.scale(2)
            client.wait_for_workers(2)
            assert not any(client.run(profiles).values())
