"""Lease: the right to make an output now, so that two runs do not make it at the same time.

In: a root, a name such as `score/3f2a`, and a time limit in seconds. Out: a `Lease`, as soon as no
other run has it. It is stored in numbered files, `leases/<name>/00000001.json`:

- a run takes the lease by creating the next number, in which only one of several succeeds. Lower
  numbers are deleted afterwards, the highest never is. So numbers only grow, and a replaced holder
  is recognised by its lower number (a fencing token), however late it wakes up;
- the holder renews the lease by counting a beat in its file, a few times within the limit. Others
  watch the beat, each by its own monotonic clock: when it stays the same for the limit, the lease
  is free. The time of day is not used, so clocks may differ by hours;
- a holder on the same machine whose process has ended is replaced at once.

A holder that could not renew stops trusting its lease before another run may take it, and waits.
When the store is back, it takes the next number as any other run would: only a claim of another run
ends its work. But a holder that is paused between its check and its next write still makes this
write. So writes must be safe then: create-only, the same bytes, or a name with the number of the
lease.

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
AWAY_SECONDS = 900.0  # a store that is away for longer ends the work
FIRST_PAUSE_SECONDS = 0.05  # between two attempts, so that a short job is followed quickly
LONGEST_PAUSE_SECONDS = 1.0
NOTIFY_SECONDS = 5.0

logger = logging.getLogger(__name__)

# The name of the work of this context in messages; without a name, they say the process.
HOLDER: ContextVar[str] = ContextVar("holder", default="")

OnWait = Callable[[str], None]


class LeaseLost(ProtegeError):
    """Another run has the lease by now, or the store is away for too long."""


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
    """Wait until the lease is free, and hold it to the end of the block.

    During the wait, `on_wait` is called every few seconds with a sentence on the present holder.
    `who` is the name of this holder in such sentences, by default `HOLDER`. `unless` is called
    between two attempts; when it is true, the wait ends and yields None.
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
    """The right to make an output, until it is released or lost."""

    def __init__(self, claims: Claims, number: int, claim: Claim, claimed_at: float) -> None:
        self.number = number
        self._claims = claims
        self._claim = claim
        self._renewed_at = claimed_at  # just before the write: no other run counts from earlier
        self._taken_by = ""
        self._released = threading.Event()
        # In a copy of the context, so that its warnings are in the log of the holder's run.
        self._thread = threading.Thread(
            target=copy_context().run,
            args=(self._renew_until_released,),
            name=f"lease {claims.name}",
            daemon=True,
        )

    @property
    def lost(self) -> bool:
        """Whether another run has it."""
        return bool(self._taken_by)

    @property
    def trusted(self) -> bool:
        """Whether it was renewed so lately that no other run can have it."""
        return not self.lost and self._age_seconds() <= TRUSTED_SHARE * self._claim.seconds

    def check(self) -> None:
        """Return while no other run can have it; a store that is away is waited for.

        Raises LeaseLost when another run has it, or the store is away for too long.
        """
        while not self.trusted:
            if self.lost or self._age_seconds() > AWAY_SECONDS:
                raise LeaseLost(
                    f"{self._claims.name} {self._describe_loss()}; this run stops here, and what "
                    "it finished is kept"
                )
            time.sleep(FIRST_PAUSE_SECONDS)

    def start(self) -> None:
        """Begin to renew it, in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Release it. If that fails, others have to wait until the limit is over."""
        self._released.set()
        # A renewal that is being written would undo the release.
        self._thread.join(self._claim.seconds)
        try:
            if self._claims.highest() == self.number:
                self._claims.replace(self.number, replace(self._claim, released=True))
        except Exception as error:
            logger.warning("the lease %s could not be released: %s", self._claims.name, error)

    def _age_seconds(self) -> float:
        return time.monotonic() - self._renewed_at

    def _describe_loss(self) -> str:
        if self.lost:
            return f"was taken over by {self._taken_by}"
        return f"could not be renewed for {self._age_seconds():.0f} s"

    def _renew_until_released(self) -> None:
        share = RENEW_SHARE
        while not self.lost and not self._released.wait(share * self._claim.seconds):
            # Read before the check: the renewal counts from no later time.
            now = time.monotonic()
            try:
                self._renew(now) if self.trusted else self._take_again(now)
                share = RENEW_SHARE if self.trusted else RETRY_SHARE
            except Exception as error:
                logger.warning("the lease %s could not be renewed: %s", self._claims.name, error)
                share = RETRY_SHARE

    def _renew(self, now: float) -> None:
        self._claim = replace(self._claim, beat=self._claim.beat + 1)
        self._claims.replace(self.number, self._claim)
        if not self._is_replaced(self.number):
            self._renewed_at = now

    def _take_again(self, now: float) -> None:
        """Take the next number: another run may have read the old beat, and be about to take it."""
        following = self.number + 1
        if self._is_replaced(self.number) or not self._claims.create(following, self._claim):
            self._is_replaced(self.number)
        elif self._is_replaced(following):
            # This number was taken before, and deleted after the next number was taken.
            self._claims.delete(following)
        else:
            self._claims.delete_below(following)
            self.number, self._renewed_at = following, now
            logger.warning("the lease %s is renewed again", self._claims.name)

    def _is_replaced(self, number: int) -> bool:
        """Whether another run has a higher number, whose name is then noted."""
        highest = self._claims.highest()
        if highest > number:
            taker = self._claims.read(highest)
            # Its own is one whose answer was lost.
            if taker is None or taker.token != self._claim.token:
                self._taken_by = taker.holder if taker is not None else "another run"
        return self.lost


class _Contender:
    """A run that wants the lease, and watches its present holder."""

    def __init__(self, claims: Claims, claim: Claim) -> None:
        self._claims, self._claim = claims, claim
        self._watched: tuple[int, Claim] | None = None
        self._unchanged_since = 0.0
        self._saw_renewal = False

    def attempt(self) -> Lease | None:
        """The lease, if it is free now and no other run is faster."""
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
            # This number was taken before, and deleted after the next number was taken.
            self._claims.delete(number)
            return None
        self._claims.delete_below(number)
        return Lease(self._claims, number, self._claim, now)

    def describe_holder(self) -> str:
        """Who has the lease, and when it is free unless renewed; empty before it was read."""
        if self._watched is None:
            return ""
        _, claim = self._watched
        age = time.monotonic() - self._unchanged_since
        renewed = f", renewed {age:.0f} s ago" if self._saw_renewal else ""
        free = time.strftime("%H:%M:%S", time.localtime(time.time() + claim.seconds - age))
        name = self._claims.name
        return f"{name} is being made by {claim.holder}{renewed}; free at {free} unless renewed"

    def _is_free(self, number: int) -> bool:
        claim = self._claims.read(number)
        if claim is None:
            return False  # another run has taken the next number
        # Read after the claim, so that the claim does not seem older than it is.
        now = time.monotonic()
        if self._watched != (number, claim):
            self._saw_renewal = self._watched is not None
            self._watched, self._unchanged_since = (number, claim), now
        expired = now - self._unchanged_since >= claim.seconds
        return claim.released or claim.process.is_gone() or expired
