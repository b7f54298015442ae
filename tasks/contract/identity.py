"""Identity: what an output is called, and by what its content is known.

In: plain JSON values, bytes or tables. Out: digests of 16 hexadecimal digits.
"""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import pyarrow as pa


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, in 16 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def bytes_digest(data: bytes) -> str:
    """SHA-256 of the bytes of a file, in 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def fingerprint_of(
    stage: str, version: int, content: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """The name of an output: everything that can change it, hashed.

    `inputs` are the identities of what it is made from, by role, so their order does not count.
    """
    return digest_of([stage, version, content, inputs])


def table_digest(table: pa.Table) -> str:
    """SHA-256 of the values, whatever their chunks and compression."""
    table_hash = TableHash(table.schema)
    table_hash.add(table)
    return table_hash.digest()


class TableHash:
    """SHA-256 of a table that comes piece by piece; where a piece ends belongs to its identity."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _HashSink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), schema)

    def add(self, table: pa.Table) -> None:
        """Take the rows that come next."""
        self._writer.write_table(table.combine_chunks())

    def digest(self) -> str:
        """The digest of all rows; none can be added after it."""
        self._writer.close()
        return self._sink.hash.hexdigest()[:16]


class _HashSink(io.RawIOBase):
    """A file that only remembers the hash of what was written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True


@cache
def versions() -> dict[str, str]:
    """The versions that stand behind an output."""
    packages = ("protege", "torch", "numpy", "pyarrow", "pillow", "simplejpeg")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
