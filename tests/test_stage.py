"""Once: however many want an output, one makes it, and all get the same."""

import functools
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from infra.lease import lease
from infra.lease.claims import Claim, Claims
from infra.lease.lease import LeaseLost
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Made, OnProgress, Output, RowCounts, Session, Target, make_output, silent
from tests.builders.waiting import EVENT_SECONDS, PATIENCE, wait_for

LEASE_SECONDS = 2 * PATIENCE
STAGE = "score"
FINGERPRINT = Target(open_store("anywhere"), STAGE, 1).fingerprint


def target_of(folder: Store, **changes: Any) -> Target:
    """The output in this folder before it exists."""
    root = open_store(folder.uri.removesuffix(f"/{STAGE}/{FINGERPRINT}"))
    return Target(root, STAGE, 1, **changes)


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The folder of an output that nobody has made yet, in each kind of store."""
    if request.param == "disk":
        root = str(tmp_path / "root")
    else:
        root = f"{request.getfixturevalue('s3')}/{tmp_path.name}-{time.monotonic_ns()}"
    return open_store(f"{root}/{STAGE}/{FINGERPRINT}")


@pytest.fixture
def folder(root: Store) -> Store:
    """The same on disk."""
    return open_store(f"{root.uri}/{STAGE}/{FINGERPRINT}")


def make(log: Path, work: Callable[[], Any], session: Session) -> Made:
    """Make a small output, with a line in the log for each execution."""
    with log.open("a") as lines:
        lines.write(f"{session.attempt}\n")
    session.on_progress(0, 1, "")
    work()
    table = tables.REJECTS.empty_table()
    receipt = contract.write_part(session.store, "part-00000.parquet", table, RowCounts(0, 0, 0))
    session.on_progress(1, 1, "")
    return Made([receipt])


def take_a_while() -> None:
    time.sleep(0.3)


def nothing() -> None:
    """No work."""


def get(
    store: Store, log: Path, work: Callable[[], Any] = nothing, watch: OnProgress = silent
) -> Output:
    return make_output(target_of(store, source="b"), functools.partial(make, log, work), watch)


def unlike(output: Output) -> Output:
    """What two runs that got the same output may see differently."""
    return replace(output, reused=False)


def test_of_many_threads_one_makes_it(store: Store, tmp_path: Path) -> None:
    outputs: list[Output] = []

    def work() -> None:
        outputs.append(get(store, tmp_path / "log", take_a_while))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "log").read_text() == "1\n"
    assert len(outputs) == 8
    assert len({unlike(output) for output in outputs}) == 1
    assert sum(not output.reused for output in outputs) == 1


def begin_together(barrier: Barrier) -> None:
    barrier.wait(EVENT_SECONDS)


def get_in_process(uri: str, log: str) -> Output:
    return unlike(get(open_store(uri), Path(log), take_a_while))


def test_of_many_processes_one_makes_it(store: Store, tmp_path: Path) -> None:
    log, spawning = tmp_path / "log", multiprocessing.get_context("spawn")
    with spawning.Pool(3, begin_together, [spawning.Barrier(3)]) as pool:
        outputs = pool.starmap(get_in_process, [(store.uri, str(log))] * 6, chunksize=1)
    assert log.read_text() == "1\n"
    assert len(set(outputs)) == 1


def test_what_is_there_is_taken_without_a_lease(folder: Store, root: Store, tmp_path: Path) -> None:
    get(folder, tmp_path / "log")
    for name in root.sizes("leases"):
        root.delete(name)
    assert get(folder, tmp_path / "log").reused
    assert not root.sizes("leases")


def test_next_in_line_makes_it_when_the_first_one_fails(folder: Store, tmp_path: Path) -> None:
    entered, waits = threading.Event(), threading.Event()

    def fail(session: Session) -> Made:
        entered.set()
        assert waits.wait(EVENT_SECONDS)
        raise ZeroDivisionError

    def first() -> None:
        with pytest.raises(ZeroDivisionError):
            make_output(target_of(folder), fail, silent)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    assert not get(folder, tmp_path / "log", watch=lambda *progress: waits.set()).reused
    thread.join()
    assert (tmp_path / "log").read_text() == "2\n"


def test_who_waits_is_told_for_whom__and_that_it_is_over(
    folder: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen: list[tuple[int, int, str]] = []

    def until_the_second_waits() -> None:
        wait_for(lambda: seen, "the second run waits")

    work = until_the_second_waits
    thread = threading.Thread(target=get, args=(folder, tmp_path / "log", work))
    thread.start()
    wait_for((tmp_path / "log").exists, "the first run is at work")
    output = get(folder, tmp_path / "log", watch=lambda *progress: seen.append(progress))
    thread.join()
    assert output.reused
    (done, total, text), *_, last = seen
    assert (done, total) == (0, 1)
    assert text.startswith(f"score/{FINGERPRINT} is being made by process ")
    assert last == (1, 1, "made by another run")
    messages = [
        record.getMessage() for record in caplog.records if record.name == "tasks.contract.stage"
    ]
    start = f"score: reads source b; writes {folder.uri}; "
    waiting, reused = [line for line in messages if line != f"{start}nothing is there yet"]
    assert waiting == f"waiting: {text}"
    assert reused == f"{start}another run has just made it"


def test_holder_that_stalled_publishes_nothing(
    folder: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTEGE_LEASE__SECONDS", str(LEASE_SECONDS))

    def away(self: Claims, number: int, claim: Claim) -> None:
        raise OSError("away")

    def go_away() -> None:
        monkeypatch.setattr(Claims, "replace", away)
        monkeypatch.setattr(Claims, "create", away)
        time.sleep(LEASE_SECONDS)

    monkeypatch.setattr(lease, "AWAY_SECONDS", 0)
    with pytest.raises(LeaseLost, match=f"score/{FINGERPRINT} could not be renewed"):
        get(folder, tmp_path / "log", go_away)
    assert list(folder.sizes()) == ["part-00000.parquet"]
    monkeypatch.undo()
    assert not get(folder, tmp_path / "log").reused


def inputs() -> dict[str, Output]:
    images = Output("shard", "91bc", "", "", "", 12_000, 12_000, 0, 0.0)
    return {"images": images, "teacher": replace(images, stage="train", fingerprint="77de")}


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "nothing is there yet"),
        (["part-00003.parquet"], "1 part is already there"),
        (["part-00003.parquet", "part-00004.parquet"], "2 parts are already there"),
        (["checkpoints/a.json", "checkpoints/a/weights"], "1 checkpoint is already there"),
        (["pins/000.parquet"], "nothing is there yet"),
    ],
)
def test_log_says_what_is_read_where_it_goes_and_what_is_there(
    folder: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    present: list[str],
    message: str,
) -> None:
    caplog.set_level(logging.INFO)
    target = target_of(folder, inputs=inputs(), identities={"images": "", "teacher": ""})
    for name in present:
        target.store.create(name, b"-")
    make_output(target, lambda session: Made([]), silent)
    assert [record.getMessage() for record in caplog.records] == [
        "score: reads images shard/91bc (12,000 rows) and teacher train/77de; "
        f"writes {target.uri}; {message}"
    ]


def test_log_says_that_all_is_there(
    folder: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    get(folder, tmp_path / "log")
    caplog.set_level(logging.INFO)
    get(folder, tmp_path / "log")
    assert caplog.records[-1].getMessage().endswith("; all of it was already there")
