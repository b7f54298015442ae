"""Executors: gathered failures, giving up, tree reduction, and a worker that is killed."""

import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster, get_worker

from infra.devices import worker_rank
from infra.executors import Cluster, Executor, Failures, Inline, Threads, open_executor
from infra.executors.clusters import unchanged_environment
from infra.lease import HOLDER
from infra.settings import DaskSettings, Settings
from tests.builders.waiting import EVENT_SECONDS, wait_for


def double(number: int) -> int:
    return 2 * number


def fail(number: int) -> int:
    raise ValueError(f"no {number}")


def fail_fifteens(number: int) -> int:
    return number if number % 15 else fail(number)


def letter(number: int) -> str:
    return chr(ord("a") + number)


def add(numbers: list[int]) -> int:
    return sum(numbers)


def kill_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


@pytest.fixture(params=["inline", "threads", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "dask":
        cluster: Cluster = request.getfixturevalue("cluster")
        return cluster
    return Inline() if request.param == "inline" else Threads(2)


def test_every_item_is_done_once(executor: Executor) -> None:
    assert sorted(executor.run(double, range(600))) == [2 * number for number in range(600)]


def test_tree_reduction_is_the_sum_for_any_number_of_items(executor: Executor) -> None:
    for count in (1, 2, 8, 9, 100):
        total = executor.reduce(double, add, range(count))
        assert executor.result(total) == count * (count - 1)


def test_handle_can_be_used_again(executor: Executor) -> None:
    first, second = (executor.reduce(double, add, range(count)) for count in (5, 9))
    assert executor.result(executor.apply(operator.sub, second, first)) == 72 - 20
    assert executor.result(executor.apply(str, first)) == "20"


def test_failed_items_are_raised_when_all_others_are_done(executor: Executor) -> None:
    done: list[int] = []
    with pytest.raises(Failures, match=r"2 of 30 failed:\n  1 times: ValueError: no ") as failures:
        done.extend(executor.run(fail_fifteens, range(1, 31)))
    assert sorted(done) == [number for number in range(1, 31) if number % 15]
    assert len(failures.value.errors) == 2


def test_error_in_a_reduction_is_raised_with_its_result(executor: Executor) -> None:
    handle = executor.apply(str, executor.reduce(fail, add, range(20)))
    with pytest.raises(ValueError, match="no "):
        executor.result(handle)


def test_reduction_keeps_the_order_and_counts_its_chunks(executor: Executor) -> None:
    done: list[None] = []
    handle = executor.reduce(letter, "".join, range(26), lambda: done.append(None))
    assert executor.result(handle) == "abcdefghijklmnopqrstuvwxyz"
    wait_for(lambda: len(done) == 26, "every chunk is counted")


def test_reduction_is_a_message_for_each_level__not_for_each_item(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler takes up one after the other, and a connection that waits for it is cut."""
    sent: list[str] = []
    send: Callable[..., None] = Client._send_to_scheduler

    def counted(client: Client, message: dict[str, Any]) -> None:
        sent.append(message["op"])
        send(client, message)

    monkeypatch.setattr(Client, "_send_to_scheduler", counted)
    assert cluster.result(cluster.reduce(double, sum, range(100))) == 9_900
    assert sent.count("update-graph") == 4  # 100 items, 13 groups of 8, 2, 1


def test_a_cluster_that_does_not_end_well_hides_no_error_of_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def broken(_settings: DaskSettings) -> Iterator[Any]:
        try:
            yield MagicMock()
        finally:
            raise OSError("of the connection")

    def work() -> None:
        with Cluster() as own:
            assert own.client is not None
            raise LookupError("of the work")

    monkeypatch.setattr("infra.executors.dask.open_client", broken)
    with pytest.raises(LookupError, match="of the work"):
        work()
    assert "did not end well" in caplog.text


def test_run_that_is_abandoned_starts_nothing_more() -> None:
    started: list[int] = []
    for _ in Threads(2).run(started.append, range(1000)):
        break
    assert len(started) <= 4


def test_threads_work_at_the_same_time_and_in_the_context_of_the_caller() -> None:
    both = threading.Barrier(2, timeout=EVENT_SECONDS)

    def meet(_: int) -> str:
        both.wait()
        return HOLDER.get()

    token = HOLDER.set("run gentle-otter")
    try:
        threads = Threads(2)
        assert set(threads.run(meet, range(4))) == {"run gentle-otter"}
        assert threads.result(threads.reduce(meet, max, range(4))) == "run gentle-otter"
    finally:
        HOLDER.reset(token)


def test_many_failures_stop_the_rest_from_being_tried(executor: Executor) -> None:
    with pytest.raises(Failures, match="too many, the rest was not tried") as failures:
        list(executor.run(fail, range(100_000)))
    assert len(failures.value.errors) < 1000


def test_starting_a_cluster_leaves_the_environment_alone() -> None:
    before = dict(os.environ)
    with Cluster(DaskSettings(workers=1)) as own:
        assert list(own.run(double, [1])) == [2]
        assert dict(os.environ) == before


def test_work_of_a_killed_worker_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    markers = [str(tmp_path / "kill"), *(str(tmp_path / f"calm-{n}") for n in range(3))]
    for marker in markers[1:]:
        Path(marker).touch()
    assert sorted(cluster.run(kill_once, markers)) == sorted(markers)


@pytest.mark.parametrize(
    ("name", "kind"), [("dask", Cluster), ("threads", Threads), ("inline", Inline)]
)
def test_settings_name_the_executor(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Executor]
) -> None:
    monkeypatch.setenv("PROTEGE_EXECUTOR", name)
    with open_executor(Settings()) as executor:
        assert type(executor) is kind


@pytest.fixture
def worded() -> Iterator[Any]:
    """The client of a cluster whose workers are called by words, as on SSH and Kubernetes."""
    nanny = {"cls": Nanny, "options": {"nthreads": 1, "host": "127.0.0.1"}}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    with (
        unchanged_environment(),
        SpecCluster({"left": nanny, "right": nanny}, scheduler) as cluster,
        Client(cluster) as client,
    ):
        yield client


def identify() -> tuple[str, int, int]:
    """The name of the worker that does it, its process, and its rank."""
    return get_worker().name, os.getpid(), worker_rank()


def identities(client: Any) -> dict[str, tuple[int, int]]:
    """The process and the rank of each worker, by name."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    # A worker that is killed meanwhile is still listed; another one answers in its place.
    where = {"allow_other_workers": True, "pure": False}
    futures = [client.submit(identify, workers=[worker], **where) for worker in workers]
    return {name: (pid, rank) for name, pid, rank in client.gather(futures)}


def is_replaced(client: Any, name: str, pid: int) -> bool:
    """Whether another process is the worker of this name; meanwhile there may be none."""
    return identities(client).get(name, (pid, 0))[0] != pid


def test_worker_has_a_rank_on_its_machine_whatever_it_is_called(worded: Any) -> None:
    found = identities(worded)
    assert sorted(found) == ["left", "right"]
    assert sorted(rank for _, rank in found.values()) == [0, 1]
    assert identities(worded) == found
    for name, (pid, _) in found.items():
        os.kill(pid, signal.SIGKILL)
        wait_for(partial(is_replaced, worded, name, pid), f"{name} is replaced")
    ranks = {name: rank for name, (_, rank) in identities(worded).items()}
    assert ranks == {name: rank for name, (_, rank) in found.items()}


def test_process_that_is_no_worker_has_the_first_rank() -> None:
    assert worker_rank() == 0


def loaded(module: str) -> bool:
    return module in sys.modules


def test_workers_load_a_module_beforehand() -> None:
    with Cluster(DaskSettings(workers=1)) as own:
        own.preload("colorsys")  # no worker is there yet, so nothing happens
        assert list(own.run(loaded, ["colorsys"])) == [False]
        own.preload("colorsys")
        assert list(own.run(loaded, ["colorsys"])) == [True]


def test_a_function_is_called_in_every_worker() -> None:
    with Cluster(DaskSettings(workers=2)) as own:
        own.everywhere(_load_colours)  # no worker is there yet, so nothing happens
        assert list(own.run(loaded, ["colorsys"])) == [False]
        own.everywhere(_load_colours)
        assert list(own.run(loaded, ["colorsys"] * 8)) == [True] * 8


def _load_colours() -> None:
    import colorsys  # noqa: F401  to have been loaded
