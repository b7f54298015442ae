"""Files: one loose image or one container of a source, and which names are worth opening."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from infra.errors import ProtegeError

# Files that stand beside images and are none. Everything else is taken for an image, and becomes
# a reject with a reason when it is not: a folder of images without suffixes is nothing unusual,
# and cameras write names with a leading underscore.
SIDECAR_SUFFIXES = frozenset({".txt", ".csv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md"})

SIDECAR_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "license", "readme", "_success", "_metadata", "_common_metadata"}
)

SIDECAR_FOLDERS = frozenset({"__macosx", "_temporary"})

CONTAINER_SUFFIXES = frozenset({".tar", ".parquet"})

LIST_SUFFIXES = frozenset({".csv", ".txt"})

MAX_CONTAINER_BYTES = 4 << 30


@dataclass(frozen=True)
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


def check_file(file: SourceFile) -> None:
    """Raise ProtegeError for a name that is not UTF-8, and for a container that is too large."""
    try:
        file.key.encode()
    except UnicodeEncodeError:
        raise ProtegeError(f"the name {file.key!r} is not UTF-8: rename this file") from None
    if file.is_container and file.size > MAX_CONTAINER_BYTES:
        raise ProtegeError(
            f"{file.uri} has {file.size >> 20:,} MiB, and a container is one shard: split it "
            f"into files of at most {MAX_CONTAINER_BYTES >> 20:,} MiB"
        )


def folder_label(key: str) -> str | None:
    """The name of the folder that an image lies in, which is its class in a labelled source."""
    return PurePosixPath(key).parent.name or None


def is_image_name(key: str) -> bool:
    """Whether a file is worth opening: not hidden, and not a known companion of images."""
    path = PurePosixPath(key)
    hidden = any(step.startswith(".") and step != ".." for step in path.parts)
    sidecar = path.suffix.lower() in SIDECAR_SUFFIXES or path.name.lower() in SIDECAR_NAMES
    return not (hidden or sidecar or SIDECAR_FOLDERS.intersection(key.lower().split("/")))


def is_container_name(key: str) -> bool:
    """Whether a file holds images instead of being one."""
    return PurePosixPath(key).suffix.lower() in CONTAINER_SUFFIXES
