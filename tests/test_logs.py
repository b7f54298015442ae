"""Logs: warnings of workers and ranks reach the log of the run, bounded and with their place."""

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import logs
from infra.executors import Cluster, Failures, Inline
from infra.executors.clusters import unchanged_environment
from infra.launch import Crashed, launch
from infra.logs import LINES_PER_WINDOW, PLACE, Line, Throttle, forward_warnings
from infra.settings import DaskSettings
from infra.store import Store, open_store
from tasks.contract import PartId, run_shards, silent
from tests.builders.odd_shards import OddShard
from tests.builders.waiting import wait_for


@pytest.fixture
def stage(root: Store) -> Store:
    """The folder of an output of `score`."""
    return open_store(f"{root.uri}/score/5f0c")


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster of two processes whose window of a minute is new."""
    with Cluster(DaskSettings(workers=2)) as cluster:
        yield cluster


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def warning(text: str, place: str = "") -> Line:
    return Line(logging.WARNING, place, text)


def test_repeated_lines_are_counted_and_sent_when_the_window_is_over(clock: Clock) -> None:
    sent: list[Line] = []
    throttle = Throttle(sent.append)
    for _ in range(1000):
        throttle.take(warning("odd", "shard 1"))
    assert list(map(str, sent)) == ["shard 1: odd"]
    clock.now = 59
    throttle.take(warning("odd", "shard 2"))
    assert len(sent) == 1
    clock.now = 60
    throttle.take(warning("odd", "shard 3"))
    assert list(map(str, sent)) == ["shard 1: odd", "odd [1,000 more]", "shard 3: odd"]


def test_different_lines_are_bounded_and_errors_come_through_a_flood_of_warnings(
    clock: Clock,
) -> None:
    sent: list[Line] = []
    throttle = Throttle(sent.append)
    for number in range(10_000):
        throttle.take(warning(f"odd {number}"))
    assert len(sent) == LINES_PER_WINDOW
    throttle.take(Line(logging.ERROR, "shard 7", "broken"))
    assert str(sent[-1]) == "shard 7: broken"
    throttle.flush()
    (suppressed,) = sent[LINES_PER_WINDOW + 1 :]
    assert str(suppressed) == "9,980 other messages were suppressed"


def test_what_one_throttle_counted_another_adds_up(clock: Clock) -> None:
    sent: list[Line] = []
    whole = Throttle(sent.append, limit=21)
    for _ in range(3):
        part = Throttle(whole.take)
        for number in range(30):
            part.take(warning(f"odd {number}"))
            part.take(warning(f"odd {number}"))
        part.flush()
    whole.flush()
    assert sum(line.repeats or 1 for line in sent) == 3 * 60
    assert [str(line) for line in sent if line.text == logs.SUPPRESSED] == [
        "60 other messages were suppressed"
    ]


def test_listener_makes_one_line_and_leaves_everything_as_it_was() -> None:
    sent: list[Line] = []
    handlers = list(logging.getLogger().handlers)
    with warnings.catch_warnings(), PLACE.at("shard 4"):
        warnings.simplefilter("always")
        show = warnings.showwarning
        with forward_warnings(sent.append):
            warnings.warn("odd\nthing", stacklevel=1)
            try:
                raise OSError("full")
            except OSError:
                logging.getLogger("some.library").exception("no %s", "room")
            logging.getLogger("distributed.core").warning("the event loop took long")
            logging.getLogger("some.library").error("y" * 10_000)
        assert warnings.showwarning is show
    assert logging.getLogger().handlers == handlers
    assert {line.place for line in sent} == {"shard 4"}
    assert sent[0].text.endswith(": UserWarning: odd thing")
    assert sent[1].text == "some.library: no room: OSError: full"
    assert len(sent) == 3
    assert len(sent[2].text) == logs.MAX_CHARACTERS


def lines_of(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == logger]


def test_warning_in_a_worker_arrives_with_its_shard(
    stage: Store, own: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    run_shards(stage, [PartId(17)], OddShard(stage.uri), own, silent)
    (line,) = lines_of(caplog, "infra.executors.worker_logs")
    assert "score shard 17: " in line
    assert "worker " in line
    assert "UserWarning: odd thing 0" in line
    assert caplog.records[-1].levelno == logging.WARNING


def test_failing_shards_are_named_with_their_errors(
    stage: Store, own: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    job = OddShard(stage.uri, warnings=0, failing=frozenset({3, 8}))
    with pytest.raises(Failures, match="2 of 12 failed"):
        run_shards(stage, map(PartId, range(12)), job, own, silent)
    messages = [record for record in caplog.records if record.name == "infra.executors.worker_logs"]
    assert {record.levelno for record in messages} == {logging.ERROR}
    ends = sorted(
        record.getMessage().partition("tasks.contract.batches: ")[2] for record in messages
    )
    assert ends == [
        f"score shard {number} failed: ValueError: the disk of {number} is gone"
        for number in (3, 8)
    ]


def test_failing_shard_is_named_in_this_process_too(
    stage: Store, caplog: pytest.LogCaptureFixture
) -> None:
    job = OddShard(stage.uri, warnings=0, failing=frozenset({1}))
    with pytest.raises(Failures):
        run_shards(stage, map(PartId, range(3)), job, Inline(), silent)
    assert lines_of(caplog, "tasks.contract.batches") == [
        "score shard 1 failed: ValueError: the disk of 1 is gone"
    ]


def test_ten_thousand_warnings_of_a_shard_are_a_few_lines(
    stage: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster(DaskSettings(workers=1)) as own:
        run_shards(stage, [PartId(5)], OddShard(stage.uri, warnings=10_000), own, silent)
    messages = lines_of(caplog, "infra.executors.worker_logs")
    assert len(messages) == LINES_PER_WINDOW + 1
    assert messages[-1] == "worker 0: 9,980 other messages were suppressed"


def test_worker_that_was_killed_and_came_back_warns_as_before(
    stage: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Cluster(DaskSettings(workers=1)) as own:
        run_shards(
            stage, [PartId(2)], OddShard(stage.uri, killing=str(tmp_path / "killed")), own, silent
        )
    (line,) = lines_of(caplog, "infra.executors.worker_logs")
    assert "score shard 2: " in line


def meet(paths: tuple[str, str]) -> None:
    """Warn while the other run is at work, too."""
    own, other = map(Path, paths)
    own.touch()
    wait_for(other.exists, "the other run is at work")
    warnings.warn(f"odd {own.name}", stacklevel=1)
    Path(f"{own}-warned").touch()
    wait_for(Path(f"{other}-warned").exists, "the other run has warned")


def test_two_runs_in_a_worker_get_each_the_warnings_of_its_own_work(tmp_path: Path) -> None:
    from distributed import LocalCluster

    logged: dict[str, list[str]] = {}

    def work(own: str, other: str, address: str) -> None:
        with Cluster(DaskSettings(address=address)) as cluster:
            cluster._connection.worker_log._throttle = Throttle(
                lambda line: logged[own].append(str(line))
            )
            logged[own] = []
            list(cluster.run(meet, [(str(tmp_path / own), str(tmp_path / other))]))

    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        unchanged_environment(),
        LocalCluster(n_workers=1, threads_per_worker=2, **options) as shared,
    ):
        second = threading.Thread(target=work, args=("b", "a", shared.scheduler_address))
        second.start()
        work("a", "b", shared.scheduler_address)
        second.join()
    for name in ("a", "b"):
        (line,) = logged[name]
        assert line.endswith(f"UserWarning: odd {name}")


def test_ranks_arrive_whole_and_with_their_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = list(launch("tests.builders.warner", tmp_path / "job", processes=2, threads=1))
    for rank in ("0", "1"):
        assert [line["number"] for line in lines if line["rank"] == rank] == list(range(500))
    messages = lines_of(caplog, "infra.launch")
    for rank in ("0", "1"):
        of_rank = [line for line in messages if f"odd thing 3 of {rank}" in line]
        assert of_rank[0].startswith(f"rank {rank}: ")
    (read,) = [line for line in messages if "a thread has read" in line]
    assert read.startswith("rank 1: ")
    assert len(messages) <= 2 * (2 * LINES_PER_WINDOW + 1)


def test_last_words_of_a_rank_are_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "job").touch()
    with pytest.raises(Crashed, match=r"the last words of [01]"):
        list(launch("tests.builders.warner", tmp_path / "job", processes=2, threads=1))
