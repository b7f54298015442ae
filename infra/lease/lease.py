"""Lease: who may make a thing now, so that no two make it at the same time.

In: a root, a name such as `score/3f2a`, and a time limit in seconds. Out: a `Lease`, as soon as
nobody else holds that name. It lies in numbered files, `leases/<name>/00000001.json`:

- to take a lease is to create the next number, which one of several succeeds in; older files are
  deleted afterwards, the highest never is. So numbers only grow, and a replaced holder is
  recognised by its lower number (a fencing token), however late it wakes up;
- the holder counts a beat in its file, a few times within the limit. Others watch whether the beat
  changes, each by its own monotonic clock; unchanged for the limit, the lease is free. The time of
  day decides nothing, so clocks may differ by hours;
- a holder of the same machine whose process has ended is replaced at once.

A holder that could not renew stops trusting its lease before anybody else may take it. Who checks
and is then paused can still write a last thing, so what is written should bear that: create-only,
the same bytes, or a name with the number of the lease.

    with acquire(root, "score/3f2a", seconds=60, on_wait=print) as lease:
        while work_is_left():
            lease.check()
            ...
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import replace
from uuid import uuid4

from infra.errors import ProtegeError
from infra.lease.claims import Claim, Claims
from infra.lease.process import ProcessId
from infra.store import Store

TRUSTED_SHARE = 0.75  # of the limit; what is left is for clocks that run unevenly, and slow stores
RENEW_SHARE = 1 / 4
RETRY_SHARE = 1 / 16  # after a renewal that failed
# Between two attempts: a short job hands over quickly.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
NOTIFY_SECONDS = 5.0

logger = logging.getLogger(__name__)

# What people call the work of this context; without it, they read the process.
HOLDER: ContextVar[str] = ContextVar("holder", default="")

OnWait = Callable[[str], None]


class LeaseLost(ProtegeError):
    """Somebody else holds the lease by now, or may."""


@contextmanager
def acquire(
    root: Store,
    name: str,
    *,
    seconds: float,
    who: str = "",
    on_wait: OnWait | None = None,
    unless: Callable[[], bool] | None = None,
) -> Iterator["Lease | None"]:
    """Hold the lease to the end of the block, after waiting for whoever has it now.

    While it waits, `on_wait` is called every few seconds with a sentence on who that is. `who` is
    what others read of us; without it, `HOLDER` says so. With `unless`, the wait ends, and None
    comes, as soon as that is true; it is asked between two attempts.
    """
    claim = Claim(uuid4().hex, who or HOLDER.get(), ProcessId.current(), seconds)
    lease = _wait(_Contender(Claims(root, name), claim), on_wait, unless)
    if lease is None:
        yield None
        return
    lease.start()
    try:
        yield lease
    finally:
        lease.end()


def _wait(
    contender: "_Contender", on_wait: OnWait | None, unless: Callable[[], bool] | None
) -> "Lease | None":
    pause_seconds, notified_at = FIRST_PAUSE_SECONDS, float("-inf")
    while (lease := contender.attempt()) is None:
        text = contender.describe_holder()
        if on_wait and text and time.monotonic() - notified_at >= NOTIFY_SECONDS:
            on_wait(text)
            notified_at = time.monotonic()
        time.sleep(pause_seconds)
        pause_seconds = min(LONGEST_PAUSE_SECONDS, 1.5 * pause_seconds)
        if unless is not None and unless():
            return None
    return lease


class Lease:
    """The right to make a thing: ours until it is released, or lost."""

    def __init__(self, claims: Claims, number: int, claim: Claim, claimed: float) -> None:
        self.number = number
        self._claims = claims
        self._claim = claim
        self._renewed = claimed  # just before the write, so that nobody counts from an earlier time
        self._lost = False
        self._taken_by = ""
        self._over = threading.Event()
        # In a copy of the context: what is logged belongs to whoever holds the lease.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._keep,), name=f"lease {claims.name}", daemon=True
        )

    @property
    def lost(self) -> bool:
        """Whether somebody else holds it by now, or may."""
        age = time.monotonic() - self._renewed
        if not self._lost and age > TRUSTED_SHARE * self._claim.seconds:
            # For good: whoever takes it over is not asked, and renewing it now would come too late.
            self._lost = True
        return self._lost

    def check(self) -> None:
        """Raise LeaseLost when it is lost."""
        if not self.lost:
            return
        reason = f"was taken over by {self._taken_by}"
        if not self._taken_by:
            age = time.monotonic() - self._renewed
            reason = f"could not be renewed for {age:.0f} s, so that others may take it over"
        raise LeaseLost(
            f"{self._claims.name} {reason}; this run stops here, and what it finished is kept"
        )

    def start(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def end(self) -> None:
        """Give it back. If that fails, others have to wait until the limit is over."""
        self._over.set()
        # A renewal under way may not undo the release.
        self._thread.join(self._claim.seconds)
        try:
            if self._claims.highest() == self.number:
                self._claims.replace(self.number, replace(self._claim, released=True))
        except Exception as error:
            logger.warning("the lease %s could not be released: %s", self._claims.name, error)

    def _keep(self) -> None:
        share = RENEW_SHARE
        while not self._over.wait(share * self._claim.seconds):
            # Before the question whether it is lost: a renewal may count from no later time.
            now = time.monotonic()
            if self.lost:
                return
            try:
                self._renew(now)
                share = RENEW_SHARE
            except Exception as error:
                logger.warning("the lease %s could not be renewed: %s", self._claims.name, error)
                share = RETRY_SHARE

    def _renew(self, now: float) -> None:
        self._claim = replace(self._claim, beat=self._claim.beat + 1)
        self._claims.replace(self.number, self._claim)
        highest = self._claims.highest()
        if highest > self.number:
            self._taken_by = "another run"
            try:
                if (taker := self._claims.read(highest)) is not None:
                    self._taken_by = taker.holder
            finally:
                self._lost = True
        else:
            self._renewed = now


class _Contender:
    """Somebody who wants a lease, and watches the one who has it."""

    def __init__(self, claims: Claims, claim: Claim) -> None:
        self._claims, self._claim = claims, claim
        self._watched: tuple[int, Claim] | None = None
        self._since = 0.0
        self._saw_beat = False

    def attempt(self) -> Lease | None:
        """The lease, if it is free now and nobody else is faster."""
        last = self._claims.highest()
        if last and not self._is_free(last):
            return None
        number, now = last + 1, time.monotonic()
        try:
            if not self._claims.create(number, self._claim):
                return None
        except OSError as error:
            raise ProtegeError(
                f"{self._claims.root.uri} cannot be written to: {error}. Run again when it can; "
                "what is done is kept"
            ) from error
        if self._claims.highest() > number:
            # This number was somebody's already, and was deleted after the next one was taken.
            self._claims.delete(number)
            return None
        self._claims.delete_below(number)
        return Lease(self._claims, number, self._claim, now)

    def describe_holder(self) -> str:
        """Who holds the lease, and when it is free unless renewed; empty before it was seen."""
        if self._watched is None:
            return ""
        _, claim = self._watched
        age = time.monotonic() - self._since
        renewed = f", renewed {age:.0f} s ago" if self._saw_beat else ""
        free = time.strftime("%H:%M:%S", time.localtime(time.time() + claim.seconds - age))
        name = self._claims.name
        return f"{name} is being made by {claim.holder}{renewed}; free at {free} unless renewed"

    def _is_free(self, number: int) -> bool:
        claim = self._claims.read(number)
        if claim is None:
            return False  # somebody has taken the next number
        # After the read: what was written before it is not taken for older than it is.
        now = time.monotonic()
        if self._watched != (number, claim):
            self._saw_beat = self._watched is not None
            self._watched, self._since = (number, claim), now
        return claim.released or claim.process.is_gone() or now - self._since >= claim.seconds
