"""Worker memory: what a plan says of it, and what is refused on a machine that has too little."""

from pathlib import Path

import pytest

from flows.billion_scale.options import BillionScale
from flows.campaign import workers
from flows.campaign.machine import with_costs
from flows.campaign.workers import check_workers, needs_of, worker_lines
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from infra.executors import clusters, local_workers
from infra.settings import DaskSettings
from tasks.estimate import Estimate
from tests.builders.campaign import tiny

GIB = 1 << 30


@pytest.fixture(scope="module")
def large() -> Estimate:
    """The options of the paper: a ResNet-50 of 224 pixels scores the pile."""
    return with_costs(
        BILLION_SCALE.plan(BillionScale(), 1_000, 10, 1_000), 10, every=True, measure=False
    )


@pytest.fixture
def two_workers_of_one_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEGE_EXECUTOR", "dask")
    monkeypatch.setenv("PROTEGE_DASK__WORKERS", "2")
    monkeypatch.setattr(workers, "memory_limit", lambda: 2 * GIB)


@pytest.mark.usefixtures("two_workers_of_one_gib")
def test_plan_says_the_memory_of_a_worker_at_each_stage(pictures: Path, large: Estimate) -> None:
    (line,) = worker_lines(BillionScale(), large)
    assert line.startswith("memory of a worker in GiB, at most about: shard 0.9, score ")
    assert ", gather 0.7" in line
    assert line.endswith("each of the 2 has 1.0")
    small = with_costs(BILLION_SCALE.plan(tiny(pictures), 60, 3, 60), 3, every=False)
    assert [need.stage for need in needs_of(tiny(pictures), small)] == ["shard", "gather"]
    check_workers(tiny(pictures), small)


@pytest.mark.usefixtures("two_workers_of_one_gib")
def test_worker_that_is_too_small_for_the_teacher_is_refused(
    large: Estimate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProtegeError, match=r"score: a worker needs about .*lower score\.batch_si"):
        check_workers(BillionScale(), large)
    monkeypatch.setattr(workers, "memory_limit", lambda: 8 * GIB)
    monkeypatch.setenv("PROTEGE_DASK__WORKERS", "4")
    with pytest.raises(ProtegeError, match=r"each of the 4 .*set PROTEGE_DASK__WORKERS=2"):
        check_workers(BillionScale(), large)
    monkeypatch.setenv("PROTEGE_EXECUTOR", "threads")
    check_workers(BillionScale(), large)


def test_cluster_of_this_machine_has_no_more_workers_than_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clusters, "gpu_count", lambda: 0)
    monkeypatch.setattr(clusters, "core_count", lambda: 16)
    monkeypatch.setattr(clusters, "memory_limit", lambda: 4 * GIB)
    assert local_workers(DaskSettings()) == 4
    assert local_workers(DaskSettings(workers=9)) == 9
    monkeypatch.setattr(clusters, "memory_limit", lambda: GIB // 2)
    assert local_workers(DaskSettings()) == 1
