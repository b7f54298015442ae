"""Storage: one small interface over a local folder and an S3 prefix.

In: a URI (`out/`, `file:///data`, `s3://bucket/prefix`). Out: a `Store`, whose paths are relative
to that URI. What a store shows is complete: `create` and `replace` publish whole objects in one
step, so a reader never meets half a file, whatever was killed.

    store = open_store("s3://bucket/protege")
    store.create("score/3f2a/part-00000.parquet", data)   # False when somebody was first

S3 clients do not survive a fork: every process that touches a store must be spawned.
"""

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from infra.errors import ProtegeError

TEMPORARY = ".tmp-"


class Store(Protocol):
    """A folder of whole objects. Paths are relative, with forward slashes."""

    @property
    def uri(self) -> str:
        """The address of the folder, without a trailing slash."""
        ...

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""
        ...

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Pieces of one object, each given as (offset, size). OSError when it is too short."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """The object as a seekable Arrow file, for Parquet readers. Raises FileNotFoundError."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish the object if there is none of that name; False when there was one."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Publish the object, in place of the one that may be there."""
        ...

    def sizes(self, path: str = "") -> dict[str, "Entry"]:
        """One recursive listing of what is at or below `path`: name -> entry, in sorted order."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object; nothing happens when there is none."""
        ...


@dataclass(frozen=True)
class Entry:
    """One object of a listing: its size in bytes, and a mark that changes when its content does."""

    size: int
    version: str


def open_store(uri: str) -> Store:
    """The store at a local path, a `file://` or an `s3://` URI. Raises ProtegeError for others."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return S3Store(uri.rstrip("/"))
    if scheme == "file":
        return LocalStore(unquote(urlsplit(uri).path))
    if "://" in uri:
        raise ProtegeError(f"{uri}: only local paths, file:// and s3:// addresses can be opened")
    return LocalStore(uri)


def split_uri(uri: str) -> tuple[Store, str]:
    """The store of the folder that holds `uri`, and the object's name in it."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    if folder == "file://" or (not folder and uri.startswith("/")):
        folder += "/"
    return open_store(folder or "."), name


class LocalStore:
    """A folder on a local or mounted disk."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).expanduser().absolute()

    @property
    def uri(self) -> str:
        return str(self._folder)

    def read(self, path: str) -> bytes:
        return (self._folder / path).read_bytes()

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with (self._folder / path).open("rb") as file:
            pieces = [os.pread(file.fileno(), size, offset) for offset, size in ranges]
        _check_lengths(path, ranges, pieces)
        return pieces

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(str(self._folder / path), "rb")

    def create(self, path: str, data: bytes) -> bool:
        temporary = self._write_temporary(path, data)
        try:
            # A hard link, unlike a rename, fails when the name is taken.
            os.link(temporary, self._folder / path)
        except FileExistsError:
            return False
        except OSError as error:
            raise ProtegeError(
                f"{self._folder} cannot make hard links ({error.strerror}), which keep two writers "
                "apart: exFAT and some network mounts have none. Choose another folder"
            ) from error
        finally:
            temporary.unlink()
        return True

    def replace(self, path: str, data: bytes) -> None:
        self._write_temporary(path, data).replace(self._folder / path)

    def sizes(self, path: str = "") -> dict[str, Entry]:
        start = self._folder / path
        if start.is_file():
            return {path: _local_entry(start.stat())} if path else {}
        found: dict[str, Entry] = {}
        cut = len(os.path.join(self._folder, ""))  # noqa: PTH118  Path costs 10 us a file
        pending = [(str(start), frozenset[str]())]
        while pending:
            folder, above = pending.pop()
            real = os.path.realpath(folder)
            # A link to a folder above itself would be walked for ever.
            if real in above or not os.path.isdir(folder):  # noqa: PTH112
                continue
            for item in os.scandir(folder):
                if item.name.startswith(TEMPORARY):
                    continue
                if item.is_dir():
                    pending.append((item.path, above | {real}))
                elif item.is_file() or item.is_symlink():
                    # What was deleted since the folder was read is not there, as on S3.
                    with suppress(FileNotFoundError):
                        # A link to nothing is listed, so that whoever reads it can say so.
                        info = item.stat(follow_symlinks=item.is_file())
                        found[item.path[cut:]] = _local_entry(info)
        return dict(sorted(found.items()))

    def exists(self, path: str) -> bool:
        return (self._folder / path).is_file()

    def delete(self, path: str) -> None:
        (self._folder / path).unlink(missing_ok=True)

    def _write_temporary(self, path: str, data: bytes) -> Path:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                # Without it a power cut can leave the final name on an empty file.
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def _local_entry(info: os.stat_result) -> Entry:
    return Entry(info.st_size, f"{info.st_size}-{info.st_mtime_ns}")


def _check_lengths(path: str, ranges: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> None:
    for (offset, size), piece in zip(ranges, pieces):
        if len(piece) != size:
            raise OSError(f"{path} ends at {offset + len(piece)}, before {offset + size} bytes")


class S3Store:
    """A prefix of a bucket, over s3fs. Credentials and endpoint come from the AWS environment."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._prefix = uri.removeprefix("s3://")

    @property
    def uri(self) -> str:
        return self._uri

    def read(self, path: str) -> bytes:
        data: bytes = self._call("cat_file", self._key(path))
        return data

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        # An empty range would be answered with the whole object.
        wanted = [(offset, offset + size) for offset, size in ranges if size]
        starts, ends = [start for start, _ in wanted], [end for _, end in wanted]
        keys = [self._key(path)] * len(wanted)
        # Without on_error, exceptions come back in the place of bytes.
        found = iter(self._call("cat_ranges", keys, starts, ends, on_error="raise"))
        pieces: list[bytes] = [next(found) if size else b"" for _, size in ranges]
        _check_lengths(path, ranges, pieces)
        return pieces

    def open(self, path: str) -> pa.NativeFile:
        file = self._call("open", self._key(path), "rb", cache_type="none")
        return pa.PythonFile(file, mode="r")

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._call("pipe_file", self._key(path), data, mode="create")
        except OSError:
            # Stores differ in how they refuse; what counts is whether the object is there.
            if self.exists(path):
                return False
            raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        self._call("pipe_file", self._key(path), data)

    def sizes(self, path: str = "") -> dict[str, Entry]:
        base = f"{self._prefix}/{path}".rstrip("/")
        try:
            listing: dict[str, dict[str, Any]] = self._call("find", base, detail=True)
        except FileNotFoundError:
            return {}
        found = {
            name.removeprefix(f"{self._prefix}/"): Entry(info["size"], str(info.get("ETag", "")))
            for name, info in listing.items()
            if name.startswith(f"{self._prefix}/") and not name.endswith("/")
        }
        return dict(sorted(found.items()))

    def exists(self, path: str) -> bool:
        return bool(self._call("isfile", self._key(path)))

    def delete(self, path: str) -> None:
        if self.exists(path):
            self._call("rm_file", self._key(path))

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}"

    def _call(self, method: str, *given: Any, **named: Any) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return getattr(_s3(), method)(*given, **named)
        except (BotoCoreError, PermissionError) as error:
            raise ProtegeError(
                f"{self._uri} cannot be used: {error}. Check the AWS environment: credentials, "
                "AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, and what this account may do"
            ) from error


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
            "read_timeout": 60,
        },
    )
