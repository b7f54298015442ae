"""Stage: an output is made once, by one run at a time, and by nobody when it is there already.

In: a `Target`, which is an output before it exists, and a function that makes its parts. Out: the
reference to the output, whoever made it. A run that finds another one at work waits, and takes what
that one has made; should it end without, the next in line goes on with the parts that it left.

    target = Target(root, "topk", VERSION, options, {"scores": scores})
    output = make_output(target, lambda session: Made(write_parts(session)), on_progress)
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from infra.lease import Lease, acquire
from infra.settings import Settings
from infra.store import Store, open_store
from tasks.contract.identity import fingerprint_of
from tasks.contract.manifest import MANIFEST, Manifest, Output, find_output, publish
from tasks.contract.parts import Receipt
from tasks.contract.progress import OnProgress
from tasks.options import Options

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """An output before it exists: what decides its content, and where it will lie.

    `inputs` are what it is made from, by role. A reduce stage depends on their content, which is
    their digest; a map stage says in `identities` on what else of an input its parts depend.
    `content` is whatever else can change the result; `source` is the address that a stage without
    inputs reads, for people; `scratch` is a folder of files that are needed only until the output
    is complete.
    """

    root: Store
    stage: str
    version: int
    options: Options = field(default_factory=Options)
    inputs: Mapping[str, Output] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    manifest: str = MANIFEST
    scratch: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """The name of the folder."""
        digests = {role: output.digest for role, output in self.inputs.items()}
        content = {"options": self.options.content(), **self.content}
        return fingerprint_of(self.stage, self.version, content, {**digests, **self.identities})

    @property
    def uri(self) -> str:
        """The address of the folder."""
        return f"{self.root.uri}/{self.stage}/{self.fingerprint}"

    @property
    def store(self) -> Store:
        """The folder."""
        return open_store(self.uri)


@dataclass(frozen=True)
class Session:
    """The time in which this run alone may make an output.

    `on_progress` checks the lease at each call, so a stage that says how far it is stops soon after
    the lease was lost. `attempt` is the number of the lease: those who were replaced have lower.
    """

    store: Store
    lease: Lease
    on_progress: OnProgress

    @property
    def attempt(self) -> int:
        """A number that grows each time that somebody begins to make this output."""
        return self.lease.number

    def keep_lease(self, _done: int, _total: int, _note: str) -> None:
        """Check the lease, without a word: the progress of a step that is not the whole."""
        self.lease.check()


@dataclass(frozen=True)
class Made:
    """What a stage has made: the parts, and what its manifest says besides.

    `seconds_before` is the time of work for this output that was done before its session.
    """

    parts: Sequence[Receipt]
    extra: Mapping[str, Any] = field(default_factory=dict)
    rechecked: Mapping[str, int] = field(default_factory=dict)
    seconds_before: float = 0.0


Make = Callable[[Session], Made]


def make_output(target: Target, make: Make, on_progress: OnProgress) -> Output:
    """The finished output; made here and now, if nobody else has made it.

    Raises LeaseLost when another run had to take over, because this one was silent for too long.
    """
    summary = f"{target.stage}: reads {_list_inputs(target)}; writes {target.uri}"
    waiting = _Waiting(on_progress)
    while (found := find_output(target.store, target.manifest)) is None:
        with acquire(
            target.root,
            f"{target.stage}/{target.fingerprint}",
            seconds=Settings().lease.seconds,
            on_wait=waiting.notify,
            unless=lambda: find_output(target.store, target.manifest) is not None,
        ) as lease:
            # Somebody may have made it since it was looked for.
            if lease is not None and find_output(target.store, target.manifest) is None:
                logger.info("%s; %s", summary, _describe_leftovers(target.store))
                return _make(target, make, lease, on_progress)
    logger.info("%s; %s", summary, waiting.finish() or "all of it was already there")
    # Whoever made it may have been killed before it could.
    _delete_scratch(target)
    return found


def _make(target: Target, make: Make, lease: Lease, on_progress: OnProgress) -> Output:
    started = time.perf_counter()

    def checked_progress(done: int, total: int, note: str) -> None:
        lease.check()
        on_progress(done, total, note)

    made = make(Session(target.store, lease, checked_progress))
    lease.check()
    manifest = Manifest(
        stage=target.stage,
        fingerprint=target.fingerprint,
        options=target.options.model_dump(mode="json"),
        inputs={role: output.link for role, output in target.inputs.items()},
        parts=made.parts,
        seconds=made.seconds_before + time.perf_counter() - started,
        extra=made.extra,
        rechecked=made.rechecked,
    )
    output = publish(target.store, manifest, target.manifest)
    if not lease.lost:
        _delete_scratch(target)
    return output


def _delete_scratch(target: Target) -> None:
    if target.scratch:
        for name in target.store.sizes(target.scratch):
            target.store.delete(name)


class _Waiting:
    """Notifies those who watch for whom this run waits; the log once."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._waits = False

    def notify(self, text: str) -> None:
        """Pass on who holds the lease, and until when at the latest."""
        if not self._waits:
            logger.warning("waiting: %s", text)
        self._waits = True
        self._on_progress(0, 1, text)

    def finish(self) -> str:
        """What came of the wait; empty when there was none."""
        if not self._waits:
            return ""
        self._on_progress(1, 1, "made by another run")
        return "another run has just made it"


def _list_inputs(target: Target) -> str:
    """`images shard/3f2a (12,000 rows) and teacher train/91bc`."""
    names = [f"{role} {_describe_input(output)}" for role, output in target.inputs.items()]
    *first, last = names or [f"source {target.source}"]
    return f"{', '.join(first)} and {last}" if first else last


def _describe_input(output: Output) -> str:
    # A model has no rows; those of its output are what it has learned from.
    rows = "" if output.stage == "train" else f" ({output.kept:,} rows)"
    return f"{output.stage}/{output.fingerprint}{rows}"


def _describe_leftovers(store: Store) -> str:
    names = list(store.sizes())
    parts = sum(name.startswith("part-") for name in names)
    checkpoints = sum(name.startswith("checkpoints/") and name.endswith(".json") for name in names)
    count, kind = (parts, "part") if parts else (checkpoints, "checkpoint")
    if not count:
        return "nothing is there yet"
    return f"{count:,} {kind}s are already there" if count > 1 else f"1 {kind} is already there"
