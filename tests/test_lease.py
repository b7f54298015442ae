"""Leases: one holder at a time, whatever is killed, stalls, or has another time of day."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infra.errors import ProtegeError
from infra.lease import HOLDER, Lease, LeaseLost, acquire, claims, process
from infra.lease import lease as leases
from infra.lease.claims import Claim, Claims
from infra.lease.process import ProcessId
from infra.store import Store, open_store
from tests.builders.waiting import PATIENCE, wait_for

NAME = "score/3f2a"
LONG = 60.0 * PATIENCE  # nothing in these tests may wait so long
SHORT = 2.0 * PATIENCE


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "root"))


def claim_of(who: str = "run gentle-otter", seconds: float = LONG) -> Claim:
    return Claim("token", who, ProcessId.current(), seconds)


def claim_key(number: int) -> str:
    return f"leases/{NAME}/{number:08}.json"


class Counter:
    """Counts who is inside, and how many there were at most."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    @contextmanager
    def count(self) -> Iterator[None]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        yield
        self.inside -= 1


@contextmanager
def held(store: Store, name: str, *, seconds: float, who: str = "") -> Iterator[Lease]:
    """A lease that nothing makes superfluous, so that there is one."""
    with acquire(store, name, seconds=seconds, who=who) as lease:
        assert lease is not None
        yield lease


def run_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_many_threads_one_holds_it_at_a_time_and_the_numbers_only_grow(store: Store) -> None:
    numbers: list[int] = []
    counter = Counter()

    def work() -> None:
        with held(store, NAME, seconds=LONG) as lease, counter.count():
            numbers.append(lease.number)
            time.sleep(0.02)
            lease.check()

    run_threads(6, work)
    assert counter.most == 1
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 6
    assert list(store.sizes()) == [f"leases/{NAME}/{numbers[-1]:08d}.json"]


def test_it_is_free_again_after_the_block_however_that_ends(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), held(store, NAME, seconds=LONG) as first:
        raise ZeroDivisionError
    with held(store, NAME, seconds=LONG) as second:
        assert (first.number, second.number) == (1, 2)


def test_names_within_one_another_are_different_leases(root: Store) -> None:
    with acquire(root, "score/3f2a/x", seconds=LONG), held(root, NAME, seconds=LONG) as lease:
        assert lease.number == 1
    with held(root, "score", seconds=LONG) as lease:
        assert lease.number == 1


def test_waiting_ends_when_the_output_was_made(root: Store) -> None:
    answers: list[bool] = []

    def is_made() -> bool:
        answers.append(len(answers) == 2)
        return answers[-1]

    with acquire(root, NAME, seconds=LONG):
        with acquire(root, NAME, seconds=LONG, unless=is_made) as lease:
            assert lease is None
        assert answers == [False, False, True]
    with acquire(root, NAME, seconds=LONG, unless=lambda: True) as lease:
        assert lease is not None, "nobody has to wait"


# -------------------------------------------------------------------------------- dead processes

ACQUIRE = """
import sys, time
from infra.lease import acquire
from infra.store import open_store

skew = float(sys.argv[3])
true_time = time.time
time.time = lambda: true_time() + skew
with acquire(open_store(sys.argv[1]), "score/3f2a", seconds=float(sys.argv[2])):
    print("acquired", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(store: Store, seconds: float, skew: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease, until it is killed."""
    command = [sys.executable, "-c", ACQUIRE, store.uri, str(seconds), str(skew)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "acquired\n"
            yield child
        finally:
            child.kill()


def seconds_until_acquired(store: Store) -> float:
    began = time.monotonic()
    with held(store, NAME, seconds=LONG) as lease:
        assert lease.number == 2
        return time.monotonic() - began


def test_killed_holder_of_the_same_machine_is_replaced_at_once(store: Store) -> None:
    with holder(store, LONG) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert seconds_until_acquired(store) < LONG


def test_killed_holder_of_another_machine_is_replaced_when_its_limit_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(store, 1.0) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        monkeypatch.setattr(process, "machine", lambda: "elsewhere")
        assert 1.0 <= seconds_until_acquired(store) < LONG


def test_holder_whose_clock_is_an_hour_late_is_not_taken_for_dead(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "machine", lambda: "elsewhere")
    with holder(root, SHORT, skew=-3600):
        over = time.monotonic() + 1.4 * SHORT
        with acquire(root, NAME, seconds=LONG, unless=lambda: time.monotonic() > over) as lease:
            assert lease is None


def test_dead_holder_whose_clock_was_an_hour_early_is_not_taken_for_alive(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "machine", lambda: "elsewhere")
    with holder(root, 1.0, skew=3600) as child:
        child.kill()
        child.wait()
        assert seconds_until_acquired(root) < LONG


# ------------------------------------------------------------------------------------- renewals


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, nothing can be renewed or released."""
    block = threading.Event()
    write = Claims.replace

    def slow(self: Claims, number: int, claim: Claim) -> None:
        while block.is_set():
            time.sleep(0.02)
        write(self, number, claim)

    monkeypatch.setattr(Claims, "replace", slow)
    return block


def test_holder_that_is_alive_keeps_it_beyond_its_limit(store: Store) -> None:
    with held(store, NAME, seconds=SHORT) as lease:
        over = time.monotonic() + 1.4 * SHORT
        with acquire(store, NAME, seconds=LONG, unless=lambda: time.monotonic() > over) as other:
            assert other is None
        lease.check()


def test_holder_that_stalls_waits_before_anybody_replaces_it(
    store: Store, blocked: threading.Event
) -> None:
    numbers: list[int] = []
    with held(store, NAME, seconds=SHORT) as lease:
        blocked.set()

        def work() -> None:
            with held(store, NAME, seconds=LONG, who="run gentle-otter") as other:
                assert not lease.trusted
                numbers.append(other.number)
                blocked.clear()

        other = threading.Thread(target=work)
        other.start()
        wait_for(lambda: not lease.trusted, "the lease is not trusted")
        assert not numbers
        with pytest.raises(LeaseLost, match=r"score/3f2a was taken over by run gentle-otter"):
            lease.check()
        other.join()
        assert not lease.trusted, "what comes after it was replaced does not make it its own again"
    assert numbers == [2]
    assert Claims(store, NAME).highest() == 2


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, the leases of this process can be neither read nor written."""
    event = threading.Event()

    def failing(method: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object) -> object:
            if event.is_set():
                raise OSError("away")
            return method(*given)

        return call

    for name in ("create", "replace", "highest", "read"):
        monkeypatch.setattr(Claims, name, failing(getattr(Claims, name)))
    return event


def test_holder_has_it_again_after_a_store_was_away_beyond_the_limit(
    store: Store, away: threading.Event
) -> None:
    """The next number decides, for another run may have read the old beat."""
    with held(store, NAME, seconds=1.0) as lease:
        away.set()
        wait_for(lambda: lease._age_seconds() > 1.0, "the limit is over")
        before = lease.number
        checking = threading.Thread(target=lease.check)
        checking.start()
        assert not lease.lost, "nobody has it"
        assert checking.is_alive(), "nobody writes meanwhile"
        away.clear()
        checking.join()
        lease.check()
        assert lease.number > before
        assert not Claims(store, NAME).create(lease.number, claim_of("another"))
    released = Claims(store, NAME).read(lease.number)
    assert released is not None
    assert released.released
    assert list(store.sizes()) == [claim_key(lease.number)]


def test_holder_that_was_away_is_told_who_was_first(store: Store, away: threading.Event) -> None:
    with held(store, NAME, seconds=1.0) as lease:
        away.set()
        wait_for(lambda: not lease.trusted, "the lease is not trusted")
        taker, following = replace(claim_of(), token="other"), lease.number + 1
        store.create(claim_key(following), claims._encode(taker))
        away.clear()
        with pytest.raises(LeaseLost, match="taken over by run gentle-otter"):
            lease.check()
    assert Claims(store, NAME).read(following) == taker, (
        "the end of the block touches nothing of it"
    )


def test_number_whose_answer_was_lost_is_its_own(store: Store, away: threading.Event) -> None:
    with held(store, NAME, seconds=1.0) as lease:
        away.set()
        wait_for(lambda: not lease.trusted, "the lease is not trusted")
        following = lease.number + 1
        store.create(claim_key(following), claims._encode(lease._claim))
        away.clear()
        lease.check()
        assert lease.number >= following


def test_store_that_stays_away_ends_the_work(
    root: Store, away: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "AWAY_SECONDS", SHORT)
    with held(root, NAME, seconds=1.0) as lease:
        away.set()
        with pytest.raises(LeaseLost, match=r"score/3f2a could not be renewed for \d+ s"):
            wait_for(lease.check, "it gives up")


def test_holder_that_was_replaced_is_told_by_whom(store: Store) -> None:
    with held(store, NAME, seconds=5 * SHORT) as lease:
        Claims(store, NAME).create(2, claim_of())
        # It counts as lost before its thread has read by whom.
        wait_for(lambda: not lease._thread.is_alive(), "the lease is lost")
        with pytest.raises(ProtegeError) as caught:
            lease.check()
    assert re.fullmatch(
        r"score/3f2a was taken over by run gentle-otter on \S+ \(process \d+\); this run stops "
        r"here, and what it finished is kept",
        str(caught.value),
    )
    claim = Claims(store, NAME).read(2)
    assert claim == claim_of(), "the end of the block touches nothing of the other's"


def test_store_that_is_away_for_a_while_is_asked_again(
    root: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, failures = Claims.replace, iter([OSError("away"), ProtegeError("no credentials")])

    def shaky(self: Claims, number: int, claim: Claim) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        write(self, number, claim)

    monkeypatch.setattr(Claims, "replace", shaky)
    with held(root, NAME, seconds=SHORT) as lease:
        # Under the number of the moment: a machine that stalls lets it take the next number.
        wait_for(lambda: renewals(root, lease) > 2, "it is renewed")
        lease.check()
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "is renewed again" not in message] == [
        "the lease score/3f2a could not be renewed: away",
        "the lease score/3f2a could not be renewed: no credentials",
    ]


def renewals(root: Store, lease: Lease) -> int:
    """How often it was renewed, as its claim in the store says; 0 between two numbers."""
    claim = Claims(root, NAME).read(lease.number)
    return claim.beat if claim is not None else 0


def test_release_that_fails_does_not_fail_the_work(
    root: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(self: Claims, number: int, claim: Claim) -> None:
        raise OSError("away")

    with acquire(root, NAME, seconds=LONG):
        monkeypatch.setattr(Claims, "replace", away)
    assert caplog.records[-1].levelno == logging.WARNING
    assert "could not be released: away" in caplog.text


# ----------------------------------------------------------------------------------------- races


def test_number_that_was_deleted_is_not_taken_again(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the write of a slow run, others took it and cleaned up."""
    claims = Claims(root, NAME)
    claims.create(3, replace(claim_of(), released=True))
    highest, answers = Claims.highest, iter([1])
    monkeypatch.setattr(Claims, "highest", lambda self: next(answers, None) or highest(self))
    claims.create(1, replace(claim_of(), released=True))
    with held(root, NAME, seconds=LONG) as lease:
        assert lease.number == 4
    assert list(root.sizes()) == [f"leases/{NAME}/00000004.json"]


def test_claim_whose_answer_was_lost_is_recognised(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = type(root).create

    def forgetful(self: Store, path: str, data: bytes) -> bool:
        create(self, path, data)
        return False

    monkeypatch.setattr(type(root), "create", forgetful)
    with held(root, NAME, seconds=LONG) as lease:
        assert lease.number == 1


def test_damaged_claim_is_named(root: Store) -> None:
    root.create(f"leases/{NAME}/00000004.json", b"")
    message = r"leases/score/3f2a/00000004\.json is damaged\. Delete this file and run again"
    with pytest.raises(ProtegeError, match=message), acquire(root, NAME, seconds=LONG):
        pass


def test_full_disk_is_a_sentence(root: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    message = r"root cannot be written to: .*No space left"
    with pytest.raises(ProtegeError, match=message), acquire(root, NAME, seconds=LONG):
        pass


# -------------------------------------------------------------------------------- what people see


def test_notice_names_the_holder_and_when_the_lease_is_free(
    root: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "NOTIFY_SECONDS", SHORT / 10)
    notices: list[str] = []
    release, began = threading.Event(), datetime.now()

    def work() -> None:
        HOLDER.set("run gentle-otter")
        with acquire(root, NAME, seconds=SHORT):
            release.wait(LONG)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(root.sizes, "the lease is taken")

    def on_wait(text: str) -> None:
        notices.append(text)
        if "renewed" in text.partition(";")[0]:
            release.set()

    with acquire(root, NAME, seconds=SHORT, on_wait=on_wait):
        thread.join()
    own = ProcessId.current()
    who = f"score/3f2a is being made by run gentle-otter on {own.host} (process {own.pid})"
    first = re.fullmatch(re.escape(who) + r"; free at (\d\d:\d\d:\d\d) unless renewed", notices[0])
    assert first
    lasted = round((datetime.now() - began).total_seconds())
    near = {(began + timedelta(seconds=at)).strftime("%H:%M:%S") for at in range(lasted + 4)}
    assert first[1] in near
    renewed = r", renewed \d+ s ago; free at \d\d:\d\d:\d\d unless renewed"
    assert re.fullmatch(re.escape(who) + renewed, notices[-1])
    assert len(notices) < 8, "not at every attempt"


def test_holder_without_a_name_is_its_process(root: Store) -> None:
    with acquire(root, NAME, seconds=LONG):
        claim = Claims(root, NAME).read(1)
    assert claim is not None
    assert claim.holder == f"process {os.getpid()} on {ProcessId.current().host}"
    with acquire(root, NAME, seconds=LONG, who="a person"):
        claim = Claims(root, NAME).read(2)
    assert claim is not None
    assert claim.holder.startswith("a person on ")


def test_lease_is_released_only_after_a_renewal_under_way(
    root: Store, blocked: threading.Event
) -> None:
    with held(root, NAME, seconds=0.8) as lease:
        assert isinstance(lease, Lease)
        blocked.set()
        time.sleep(0.4)
        threading.Timer(0.1, blocked.clear).start()
    claim = Claims(root, NAME).read(1)
    assert claim is not None
    assert claim.released
