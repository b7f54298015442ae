"""Executors: gathered failures, giving up, tree reduction, and a worker that is killed."""

import operator
import os
import signal
from pathlib import Path

import pytest

from infra.executors import Cluster, Executor, Failures, Inline
from infra.settings import Settings


def double(number: int) -> int:
    return 2 * number


def fail(number: int) -> int:
    raise ValueError(f"no {number}")


def add(numbers: list[int]) -> int:
    return sum(numbers)


def kill_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


@pytest.fixture(params=["inline", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Inline() if request.param == "inline" else request.getfixturevalue("cluster")


def test_every_item_is_done_once(executor: Executor) -> None:
    assert sorted(executor.run(double, range(600))) == [2 * number for number in range(600)]


def test_tree_reduction_is_the_sum_for_any_number_of_items(executor: Executor) -> None:
    for count in (1, 2, 8, 9, 100):
        held = executor.reduce(double, add, range(count))
        assert executor.result(held) == count * (count - 1)


def test_what_is_held_can_be_used_again(executor: Executor) -> None:
    first, second = (executor.reduce(double, add, range(count)) for count in (5, 9))
    assert executor.result(executor.apply(operator.sub, second, first)) == 72 - 20
    assert executor.result(executor.apply(str, first)) == "20"


def test_many_failures_stop_the_rest_from_being_tried(executor: Executor) -> None:
    with pytest.raises(Failures, match="too many, the rest was not tried") as failures:
        list(executor.run(fail, range(100_000)))
    assert len(failures.value.errors) < 1000


def test_starting_a_cluster_leaves_the_environment_alone() -> None:
    before = dict(os.environ)
    with Cluster(Settings(workers=1)) as own:
        assert list(own.run(double, [1])) == [2]
        assert dict(os.environ) == before


def test_work_of_a_killed_worker_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    markers = [str(tmp_path / "kill"), *(str(tmp_path / f"calm-{n}") for n in range(3))]
    for marker in markers[1:]:
        Path(marker).touch()
    assert sorted(cluster.run(kill_once, markers)) == sorted(markers)
