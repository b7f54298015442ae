"""Recheck: another attempt at images that were rejected, after somebody has mended them.

In: an `images` output. Out: a `Recheck`, which counts what became of its rejects, and a new
increment of the pins, in which each loose file that can be used now has a place in a new shard.
What is made is never changed: the next run of `shard` makes the new shards, and a new manifest.

    recheck = recheck_rejects(root, images)
    recheck.lines()   # "3 can be used now: the next run takes them in"
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Store
from tasks import tables
from tasks.contract import Output
from tasks.shard.candidates import Problem, container_problem, problem_of, read_loose
from tasks.shard.changes import differs
from tasks.shard.options import ShardOptions
from tasks.shard.pins import (
    Attempt,
    PinnedFiles,
    add_pins,
    images_target,
    known_files,
    read_pins,
)
from tasks.shard.sources import Listing, SourceFile, is_container_name

CHECK_THREADS = 16  # small reads wait for the store, not for the processor

Reject = Mapping[str, Any]  # a row of the table of rejects


@dataclass(frozen=True)
class Recheck:
    """What became of the rejects of an output; every one is counted once."""

    usable: int
    """They have a place in a new shard now."""
    unusable: Mapping[str, int]
    """Files that still cannot be used, by the reason of today."""
    contained: int
    """They lie in .tar or .parquet files, and cannot be tried again one by one."""
    tried: int
    """They have had another attempt before."""

    def lines(self) -> list[str]:
        """The same for people, with what to do."""
        bad = ", ".join(f"{count:,} {reason}" for reason, count in self.unusable.items())
        counts = [
            (self.usable, "can be used now: the next run takes them in"),
            (sum(self.unusable.values()), f"still cannot be used ({bad})"),
            (
                self.contained,
                "lie in .tar or .parquet files: mend these images and add them to the source in a "
                "file of their own, which the next run takes in",
            ),
            (self.tried, "have had another attempt before"),
        ]
        return [f"{count:,} {text}" for count, text in counts if count] or ["there are no rejects"]


@dataclass(frozen=True)
class _Check:
    """A reject, its file as it is now, and why that cannot be used."""

    reject: Reject
    file: SourceFile | None
    problem: Problem | None


def recheck_rejects(root: Store, images: Output) -> Recheck:
    """Check again what was rejected, and pin the loose files that can be used now.

    Those that have changed and still cannot are pinned too: they are rejects again, but no longer
    files that differ from their pins, which would stop every run. Raises ProtegeError.
    """
    options = ShardOptions.model_validate(images.options)
    target = images_target(root, options)
    store = target.store
    if target.fingerprint != images.fingerprint:
        raise ProtegeError(
            f"{images.uri} was made by another version of protege, which alone can check it again"
        )
    _, pins = read_pins(store)
    rejects = images.rejects(["image_id", "key", "reason"]).to_pylist()
    tried = _tried(pins)
    left = [row for row in rejects if row["image_id"] not in tried]
    listing = options.list_files()
    checks = _check_again(_with_files(left, pins), options, listing)
    _pin(store, _attempts(checks, known_files(pins)), options, listing)
    bad = Counter(check.problem["reason"] for check in checks if check.problem is not None)
    return Recheck(
        usable=len(checks) - bad.total(),
        unusable=dict(sorted(bad.items())),
        contained=len(left) - len(checks),
        tried=len(rejects) - len(left),
    )


def _tried(pins: Iterable[pa.Table]) -> set[int]:
    """The rejects that some increment has another attempt at."""
    return {image_id for table in pins for image_id in table["recheck_of"].drop_null().to_pylist()}


def _with_files(rejects: Iterable[Reject], pins: Iterable[pa.Table]) -> list[Reject]:
    """The rejects that are files of their own: loose images, and containers as a whole."""
    containers = {
        shard: key
        for table in pins
        for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist())
        if is_container_name(key)
    }
    return [
        row
        for row in rejects
        if containers.get(row["image_id"] >> tables.ROW_BITS, row["key"]) == row["key"]
    ]


def _check_again(
    rejects: Sequence[Reject], options: ShardOptions, listing: Listing
) -> list[_Check]:
    """Read these files as they are now, and check them as `shard` does."""
    now = {file.key: file for file in listing}

    def check(reject: Reject) -> _Check:
        file = now.get(reject["key"])
        if file is None:
            gone = {"reason": "unreadable", "detail": "it is not in the source any more"}
            return _Check(reject, None, gone)
        if file.is_container:
            return _Check(reject, file, container_problem(file, options))
        return _Check(reject, file, problem_of(read_loose(file), options))

    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        return list(pool.map(check, rejects))


def _attempts(checks: Iterable[_Check], known: PinnedFiles) -> list[Attempt]:
    """The files that get a new place, in the order of their keys."""
    attempts = [
        Attempt(check.file, check.reject["image_id"], check.reject["reason"])
        for check in checks
        if check.file is not None
        and (check.problem is None or differs(check.file, known[check.file.key]))
    ]
    return sorted(attempts, key=lambda attempt: attempt.file.key)


def _pin(
    store: Store, attempts: Sequence[Attempt], options: ShardOptions, listing: Listing
) -> None:
    """Give each attempt a place, unless somebody else has just done it."""
    while True:
        _, pins = read_pins(store)
        tried = _tried(pins)
        left = [attempt for attempt in attempts if attempt.recheck_of not in tried]
        if not left:
            return
        add_pins(store, pins, left, options, listing.passed_over)
