"""Counting: what an object store would be asked, by stages that work on a local disk.

    requests = Requests(seconds=0.03)
    with counting(requests):
        gather(...)                          # in this process
    requests.counts, requests.bytes_read

Each request takes so many seconds, and those that are on their way together take them once.

A listing counts a request for each thousand objects, ranges those that are read together on S3
(infra/store/ranges.py), a Parquet file its size and the ranges that are read of it, and an object
that is written a request for each 50 MiB.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

from infra.store.local import LocalDraft, LocalStore
from infra.store.parquet import ParquetObject, open_by_ranges
from infra.store.ranges import blocks_of, windows
from tasks.gather import spills
from tests.builders.peak import forget_peak, peak_mib

LISTED = 1_000
UPLOADED_BYTES = 50 << 20


@dataclass
class Requests:
    """Requests by kind, and the bytes that were read; each takes so many `seconds`."""

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.counts.values())

    def note(self, kind: str, count: int = 1, waits: int | None = None) -> None:
        """Count requests, and wait for them one after the other, or fewer times."""
        self.counts[kind] += count
        if self.seconds:
            time.sleep(self.seconds * (count if waits is None else waits))

    def got(self, num_bytes: int, requests: int = 1, waits: int | None = None) -> None:
        """Count what was read."""
        self.bytes_read += num_bytes
        self.note("get", requests, waits)

    def clear(self) -> None:
        """Begin anew."""
        self.counts.clear()
        self.bytes_read = 0


@contextmanager
def counting(requests: Requests) -> Iterator[None]:
    """Count the requests of this process to stores on a local disk."""

    def counted(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        original = getattr(LocalStore, name)

        def method(store: LocalStore, *given: Any, **named: Any) -> Any:
            result = original(store, *given, **named)
            note(result, *given)
            return result

        return method

    @contextmanager
    def opened(store: LocalStore, path: str) -> Iterator[ParquetObject]:
        num_bytes = (Path(store.uri) / path).stat().st_size
        requests.note("head")
        yield open_by_ranges(partial(store.read_ranges, path), num_bytes)

    local_file = LocalStore.local_file

    @contextmanager
    def fetched(store: LocalStore, path: str) -> Iterator[BinaryIO]:
        requests.got((Path(store.uri) / path).stat().st_size)
        with local_file(store, path) as file:
            yield file

    def ranged(result: Sequence[bytes], _path: str, ranges: Sequence[tuple[int, int]]) -> None:
        blocks = blocks_of(ranges)
        at_a_time = len(list(windows(blocks)))
        requests.got(sum(block.size for block in blocks), len(blocks), at_a_time)

    notes: dict[str, Callable[..., None]] = {
        "read": lambda data, _path: requests.got(len(data)),
        "read_ranges": ranged,
        "sizes": lambda found, *_: requests.note("list", 1 + len(found) // LISTED),
        "exists": lambda *_: requests.note("head"),
        "delete": lambda *_: requests.note("delete"),
    }
    sync = LocalDraft._sync

    def synced(draft: LocalDraft) -> None:
        sync(draft)
        requests.note("put", 1 + draft.file.tell() // UPLOADED_BYTES)

    with ExitStack() as patches:
        for name, note in notes.items():
            patches.enter_context(patch.object(LocalStore, name, counted(name, note)))
        patches.enter_context(patch.object(LocalStore, "open_parquet", opened))
        patches.enter_context(patch.object(LocalStore, "local_file", fetched))
        patches.enter_context(patch.object(LocalDraft, "_sync", synced))
        yield


_requests = Requests()
_counting = ExitStack()


def count_anew(seconds: float) -> None:
    """In this process: count requests from now on, each of which takes so many seconds."""
    if not _requests.seconds:
        _counting.enter_context(counting(_requests))
        # As on S3, where a request costs more than the bytes of a small image.
        _counting.enter_context(patch.object(spills, "images_stay", lambda _places: False))
        threads = spills.LOCATING_THREADS
        _counting.enter_context(patch.object(spills, "locating_threads", lambda _images: threads))
    _requests.seconds = seconds
    _requests.clear()
    forget_peak()


def counted() -> tuple[Counter[str], int, float]:
    """In this process: requests by kind and bytes read since then, and the peak memory in MiB."""
    return Counter(_requests.counts), _requests.bytes_read, peak_mib()
