"""A store on S3, over s3fs.

S3 clients do not survive a fork: every process that uses a store must be spawned.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from tempfile import _TemporaryFileWrapper
from typing import Any, BinaryIO, cast

from infra.errors import ProtegeError, StoreAway
from infra.store.address import S3
from infra.store.base import ObjectInfo, _check_lengths
from infra.store.parquet import ParquetObject, open_by_ranges
from infra.store.ranges import blocks_of, windows

# Two writers have created the same object at once; which of them has won is not known yet.
CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
CONFLICT_SECONDS = (0.1, 0.5, 2, 5)
CONNECTIONS = 32  # one carries some 90 MB/s
# s3fs takes what follows it for the version of an object, and would answer with another one.
VERSION_MARK = "?versionId="
CHECK = (
    "Check the AWS environment: credentials, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, and what this "
    "account may do"
)


class S3Store:
    """A prefix of a bucket, over s3fs. Credentials and endpoint come from the AWS environment."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._prefix = uri.removeprefix(S3)

    @property
    def uri(self) -> str:
        return self._uri

    def read(self, path: str) -> bytes:
        data: bytes = self._call("cat_file", self._key(path))
        return data

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        pieces = [b""] * len(ranges)
        for window in windows(blocks_of(ranges)):
            keys = [self._key(path)] * len(window)
            starts, ends = [block.offset for block in window], [block.end for block in window]
            # Without on_error, exceptions come back in the place of bytes.
            found = self._call("cat_ranges", keys, starts, ends, on_error="raise")
            for block, data in zip(window, found, strict=True):
                for place in block.places:
                    offset, size = ranges[place]
                    first = offset - block.offset
                    pieces[place] = data[first : first + size]
        _check_lengths(path, ranges, pieces)
        return pieces

    @contextmanager
    def open_parquet(self, path: str) -> Iterator[ParquetObject]:
        num_bytes: int = self._call("size", self._key(path))
        yield open_by_ranges(partial(self.read_ranges, path), num_bytes)

    @contextmanager
    def local_file(self, path: str) -> Iterator[BinaryIO]:
        with tempfile.NamedTemporaryFile() as file:
            self._call("get_file", self._key(path), file.name)
            # Whoever fetches it may have put another file in its place.
            with open(file.name, "rb") as copy:  # noqa: PTH123  Path.open is the same
                yield copy

    def create(self, path: str, data: bytes) -> bool:
        return self._unless_taken(path, "pipe_file", self._key(path), data)

    def replace(self, path: str, data: bytes) -> None:
        self._call("pipe_file", self._key(path), data)

    def append(self, path: str, data: bytes) -> None:
        # An object cannot grow.
        before = self.read(path) if self.exists(path) else b""
        self.replace(path, before + data)

    @contextmanager
    def draft(self, path: str) -> Iterator["S3Draft"]:
        with tempfile.NamedTemporaryFile() as file:
            yield S3Draft(self, path, file)

    def upload(self, path: str, file: str) -> None:
        """Publish a local file; it replaces an object of the same name."""
        self._call("put_file", file, self._key(path))

    def upload_new(self, path: str, file: str) -> bool:
        """Publish a local file unless the name is taken; False when it was."""
        return self._unless_taken(path, "put_file", file, self._key(path))

    def _unless_taken(self, path: str, method: str, *given: Any) -> bool:
        for seconds in (*CONFLICT_SECONDS, None):
            try:
                self._call(method, *given, mode="create")
                return True
            except OSError as error:
                # Stores differ in how they refuse; what counts is whether the object is there.
                if self.exists(path):
                    return False
                # Another writer is at it, and may yet fail.
                if seconds is None or _code_of(error) not in CONFLICTS:
                    raise
            time.sleep(seconds)
        raise AssertionError("the last attempt has returned or raised")

    def sizes(self, path: str = "", limit: int | None = None) -> dict[str, ObjectInfo]:
        key = self._key(path).rstrip("/")
        try:
            found = dict(islice(self._list(key), limit))
            if path and not found:
                info = self._call("info", key)
                if info["type"] == "file":
                    found[path] = ObjectInfo(info["size"], str(info.get("ETag", "")))
        except FileNotFoundError:
            return {}
        return dict(sorted(found.items()))

    def _list(self, folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        """The objects below a folder, by their names in this one, a request for each thousand."""
        bucket, _, key = folder.partition("/")
        more: dict[str, str] = {}
        while True:
            page = self._call(
                "call_s3", "list_objects_v2", Bucket=bucket, Prefix=f"{key}/" if key else "", **more
            )
            for info in page.get("Contents", ()):
                if not info["Key"].endswith("/"):
                    name = f"{bucket}/{info['Key']}".removeprefix(f"{self._prefix}/")
                    yield name, ObjectInfo(info["Size"], str(info.get("ETag", "")))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def exists(self, path: str) -> bool:
        return bool(self._call("isfile", self._key(path)))

    def delete(self, path: str) -> None:
        if self.exists(path):
            self._call("rm_file", self._key(path))

    def _key(self, path: str) -> str:
        key = f"{self._prefix}/{path}"
        if VERSION_MARK in key:
            raise FileNotFoundError(f"a key with {VERSION_MARK!r} cannot be read: {key}")
        return key

    def _call(self, method: str, *given: Any, **named: Any) -> Any:
        from botocore.exceptions import BotoCoreError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            return getattr(_s3(), method)(*given, **named)
        except (HTTPClientError, NoConnection, ConnectionError) as error:
            raise StoreAway(f"{self._uri} does not answer: {error}. {CHECK}") from error
        except (BotoCoreError, PermissionError) as error:
            raise ProtegeError(f"{self._uri} cannot be used: {error}. {CHECK}") from error


class S3Draft:
    """A file on this machine, in the folder for temporary files, that becomes an object."""

    def __init__(self, store: S3Store, path: str, file: "_TemporaryFileWrapper[bytes]") -> None:
        self.file = cast(BinaryIO, file)
        self._store, self._path, self._name = store, path, file.name

    def create(self) -> bool:
        self.file.flush()
        return self._store.upload_new(self._path, self._name)

    def replace(self) -> None:
        self.file.flush()
        self._store.upload(self._path, self._name)


def _code_of(error: OSError) -> str:
    """What the store calls an error; empty where it did not answer."""
    response = getattr(error.__cause__, "response", {})
    code: str = response.get("Error", {}).get("Code", "")
    return code


@cache
def _s3() -> Any:
    # Imported here: a run on local disk should not wait for the AWS client to load.
    import s3fs

    return s3fs.S3FileSystem(
        # A cached listing would hide the parts that other workers have just published.
        use_listings_cache=False,
        config_kwargs={
            "retries": {"mode": "standard", "max_attempts": 8},
            "connect_timeout": 10,
            "max_pool_connections": CONNECTIONS,
            "read_timeout": 60,
        },
    )
