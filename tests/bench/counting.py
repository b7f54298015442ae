"""Counting: what an object store would be asked, by stages that work on a local disk.

    requests = Requests()
    with counting(requests):
        gather(...)                          # in this process
    requests.counts, requests.bytes_read

A listing counts a request for each thousand objects, ranges those that are read together on S3
(infra/store/ranges.py), a Parquet file its size and every read of it, and an object that is written
a request for each 50 MiB.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import pyarrow as pa

from infra.store.local import LocalDraft, LocalStore
from infra.store.ranges import blocks_of

LISTED = 1_000
UPLOADED_BYTES = 50 << 20


@dataclass
class Requests:
    """Requests by kind, and the bytes that were read."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.counts.values())

    def got(self, num_bytes: int, requests: int = 1) -> None:
        """Count what was read."""
        self.counts["get"] += requests
        self.bytes_read += num_bytes


class _CountedFile:
    """A file whose reads are counted, as pyarrow reads it."""

    def __init__(self, file: BinaryIO, requests: Requests) -> None:
        self._file, self._requests = file, requests

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._requests.got(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def counting(requests: Requests) -> Iterator[None]:
    """Count the requests of this process to stores on a local disk."""

    def counted(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        original = getattr(LocalStore, name)

        def method(store: LocalStore, *given: Any) -> Any:
            result = original(store, *given)
            note(result, *given)
            return result

        return method

    def opened(store: LocalStore, path: str) -> pa.NativeFile:
        requests.counts["head"] += 1
        file = (Path(store.uri) / path).open("rb")
        return pa.PythonFile(_CountedFile(file, requests), mode="r")

    def ranged(result: Sequence[bytes], _path: str, ranges: Sequence[tuple[int, int]]) -> None:
        blocks = blocks_of(ranges)
        requests.got(sum(block.size for block in blocks), len(blocks))

    notes: dict[str, Callable[..., None]] = {
        "read": lambda data, _path: requests.got(len(data)),
        "read_ranges": ranged,
        "sizes": lambda found, *_: requests.counts.update(list=1 + len(found) // LISTED),
        "exists": lambda *_: requests.counts.update(head=1),
        "delete": lambda *_: requests.counts.update(delete=1),
    }
    sync = LocalDraft._sync

    def synced(draft: LocalDraft) -> None:
        sync(draft)
        requests.counts["put"] += 1 + draft.file.tell() // UPLOADED_BYTES

    with ExitStack() as patches:
        for name, note in notes.items():
            patches.enter_context(patch.object(LocalStore, name, counted(name, note)))
        patches.enter_context(patch.object(LocalStore, "open", opened))
        patches.enter_context(patch.object(LocalDraft, "_sync", synced))
        yield
