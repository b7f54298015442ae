"""Once: an output is made by one run at a time, and by nobody when it is there already.

In: the folder of an output, and how to make it. Out: the reference to the output, whoever made it.
A run that finds another one at work waits, and takes what that one has made; should it end without,
the next in line goes on with the parts that it left.

    make = functools.partial(_make, job, executor)     # called with the lease and on_progress
    output = once(store, make, on_progress, inputs={"images": images, "teacher": teacher})
"""

import logging
from collections.abc import Callable, Mapping

from infra.lease import Lease, hold_unless
from infra.settings import Settings
from infra.store import Store, split_uri
from tasks.contract.manifest import MANIFEST, Output, find_output
from tasks.contract.progress import OnProgress

logger = logging.getLogger(__name__)

# What it is given as on_progress checks the lease at each call, so a stage that tells how far it is
# stops soon after it lost the lease. It checks again itself before it publishes or deletes.
Make = Callable[[Lease, OnProgress], Output]


def once(
    store: Store,
    make: Make,
    on_progress: OnProgress,
    *,
    inputs: Mapping[str, Output | str],
    name: str = MANIFEST,
) -> Output:
    """The finished output in this folder; made here and now, if nobody else has made it.

    `inputs` are what it is made of, by role: outputs, or the address of a source. Raises LeaseLost
    when another run had to take over, because nothing was heard of this one for too long.
    """
    above, fingerprint = split_uri(store.uri)
    root, stage = split_uri(above.uri)
    reads = f"{stage}: reads {_listed(inputs)}; writes {store.uri}"
    waiting = _Waiting(on_progress)
    while (found := find_output(store, name)) is None:
        with hold_unless(
            lambda: find_output(store, name) is not None,
            root,
            f"{stage}/{fingerprint}",
            seconds=Settings().lease_seconds,
            on_wait=waiting.told,
        ) as lease:
            # Somebody may have made it since we looked.
            if lease is not None and find_output(store, name) is None:
                logger.info("%s; %s", reads, _already_there(store))
                return make(lease, _guarded(lease, on_progress))
    logger.info("%s; %s", reads, waiting.over() or "all of it was already there")
    return found


class _Waiting:
    """Tells those who watch for whom this run waits; the log once."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._waits = False

    def told(self, text: str) -> None:
        """Pass on who it is, and until when at the latest."""
        if not self._waits:
            logger.warning("waiting: %s", text)
        self._waits = True
        self._on_progress(0, 1, text)

    def over(self) -> str:
        """What the wait was good for; empty when there was none."""
        if not self._waits:
            return ""
        self._on_progress(1, 1, "made by another run")
        return "another run has just made it"


def _guarded(lease: Lease, on_progress: OnProgress) -> OnProgress:
    def watch(done: int, total: int, note: str) -> None:
        lease.check()
        on_progress(done, total, note)

    return watch


def _listed(inputs: Mapping[str, Output | str]) -> str:
    """`images shard/3f2a (12,000 rows) and teacher train/91bc`."""
    *most, last = [f"{role} {_named(one)}" for role, one in inputs.items()]
    return f"{', '.join(most)} and {last}" if most else last


def _named(one: Output | str) -> str:
    if isinstance(one, str):
        return one
    # A model has no rows; those of its output are what it has learned from.
    rows = "" if one.stage == "train" else f" ({one.kept:,} rows)"
    return f"{one.stage}/{one.fingerprint}{rows}"


def _already_there(store: Store) -> str:
    names = list(store.sizes())
    parts = sum(name.startswith("part-") for name in names)
    checkpoints = sum(name.startswith("checkpoints/") and name.endswith(".json") for name in names)
    count, kind = (parts, "part") if parts else (checkpoints, "checkpoint")
    if not count:
        return "nothing is there yet"
    return f"{count:,} {kind}s are already there" if count > 1 else f"1 {kind} is already there"
