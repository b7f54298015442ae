"""A store on a local or mounted disk."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from infra.errors import ProtegeError
from infra.store.base import TEMPORARY_PREFIX, ObjectInfo, _check_lengths, check_inside
from infra.store.parquet import ParquetObject, open_local


class LocalStore:
    """A folder on a local or mounted disk."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).expanduser().absolute()

    @property
    def uri(self) -> str:
        return str(self._folder)

    def read(self, path: str) -> bytes:
        return self._place(path).read_bytes()

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._place(path).open("rb") as file:
            pieces = [os.pread(file.fileno(), size, offset) for offset, size in ranges]
        _check_lengths(path, ranges, pieces)
        return pieces

    def open_parquet(self, path: str) -> AbstractContextManager[ParquetObject]:
        return open_local(str(self._place(path)))

    @contextmanager
    def local_file(self, path: str) -> Iterator[BinaryIO]:
        with self._place(path).open("rb") as file:
            yield file

    def create(self, path: str, data: bytes) -> bool:
        with self.draft(path) as draft:
            draft.file.write(data)
            return draft.create()

    def replace(self, path: str, data: bytes) -> None:
        with self.draft(path) as draft:
            draft.file.write(data)
            draft.replace()

    def append(self, path: str, data: bytes) -> None:
        target = self._place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(data)

    @contextmanager
    def draft(self, path: str) -> Iterator["LocalDraft"]:
        target = self._place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                yield LocalDraft(file, temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def sizes(self, path: str = "", limit: int | None = None) -> dict[str, ObjectInfo]:
        start = self._place(path)
        if start.is_file():
            return {path: _object_info(start.stat())} if path else {}
        return dict(sorted(islice(self._walk(start), limit)))

    def _walk(self, start: Path) -> Iterator[tuple[str, ObjectInfo]]:
        """The files below a folder, by their names in this one."""
        cut = len(os.path.join(self._folder, ""))  # noqa: PTH118  Path costs 10 us a file
        pending = [(str(start), frozenset[str]())]
        while pending:
            folder, above = pending.pop()
            real = os.path.realpath(folder)
            # A link to a folder above itself would be walked for ever.
            if real in above or not os.path.isdir(folder):  # noqa: PTH112
                continue
            with os.scandir(folder) as items:
                for item in items:
                    if item.name.startswith(TEMPORARY_PREFIX):
                        continue
                    if item.is_dir():
                        pending.append((item.path, above | {real}))
                    elif item.is_file() or item.is_symlink():
                        # What was deleted since the folder was read is not there, as on S3.
                        with suppress(FileNotFoundError):
                            # A link to nothing is listed, so that whoever reads it can say so.
                            info = item.stat(follow_symlinks=item.is_file())
                            yield item.path[cut:], _object_info(info)

    def exists(self, path: str) -> bool:
        return self._place(path).is_file()

    def delete(self, path: str) -> None:
        self._place(path).unlink(missing_ok=True)

    def _place(self, path: str) -> Path:
        # A link within the folder may lead elsewhere, for its owner has made it.
        return self._folder / check_inside(self.uri, path)


class LocalDraft:
    """A file beside the one that it will become."""

    def __init__(self, file: BinaryIO, temporary: Path, target: Path) -> None:
        self.file = file
        self._temporary, self._target = temporary, target

    def create(self) -> bool:
        self._sync()
        try:
            # A hard link, unlike a rename, fails when the name is taken.
            os.link(self._temporary, self._target)
        except FileExistsError:
            return False
        except OSError as error:
            raise ProtegeError(
                f"{self._target.parent} cannot make hard links ({error.strerror}), by which one of "
                "two writers is refused: exFAT and some network mounts have none. Choose another "
                "folder"
            ) from error
        return True

    def replace(self) -> None:
        self._sync()
        self._temporary.replace(self._target)

    def _sync(self) -> None:
        self.file.flush()
        # Without it a power cut can leave the final name on an empty file.
        os.fsync(self.file.fileno())


def _object_info(info: os.stat_result) -> ObjectInfo:
    return ObjectInfo(info.st_size, f"{info.st_size}-{info.st_mtime_ns}")
