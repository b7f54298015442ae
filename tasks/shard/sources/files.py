"""Files: one loose image or one container of a source, and what a listing of them is."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from infra.errors import ProtegeError
from tasks.shard.sources.names import is_container_name

MAX_CONTAINER_BYTES = 4 << 30
MAX_IMAGE_BYTES = 1 << 30  # a file beyond it is no image, and would fill the memory of a worker
# A loose image takes about 1 KB of this process while it is pinned, a listing 0.1 ms on S3.
MAX_FILES = 10_000_000
UNKNOWN_VERSION = "listed"  # of a listed file that nobody asked the store about
# Stands for the version of a file whose name no table can hold, so that it is never opened.
NOT_UTF8 = "the name is not UTF-8 text"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A loose image, or a container of many."""

    key: str
    uri: str
    size: int
    version: str
    label: str | None = None
    tags: tuple[str, ...] | None = None

    @property
    def is_container(self) -> bool:
        """Whether it holds images instead of being one."""
        return is_container_name(self.key)


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted by key, and how many others were passed over, by ending."""

    files: list[SourceFile]
    passed_over: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[SourceFile]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def check_file(file: SourceFile) -> None:
    """Raise ProtegeError for a container that is too large."""
    if file.is_container and file.size > MAX_CONTAINER_BYTES:
        raise ProtegeError(
            f"{file.uri} has {file.size >> 20:,} MiB, and a container is one shard: split it "
            f"into files of at most {MAX_CONTAINER_BYTES >> 20:,} MiB"
        )


def check_number(uri: str, num_files: int) -> None:
    """Raise ProtegeError for more files than one process can know."""
    if num_files > MAX_FILES:
        raise ProtegeError(
            f"{uri} has more than {MAX_FILES:,} files, which is more than a source may have: pack "
            "them into .tar files, of some thousand images each, which may be as many as you like"
        )


def escaped(name: str) -> str:
    r"""A name that is not UTF-8, with its other bytes written as `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
