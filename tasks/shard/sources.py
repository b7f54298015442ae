"""Sources: what a user has, as a sorted list of files.

In: the address of a folder of images, of `.tar` or `.parquet` files, or of a list (`.csv`, `.txt`).
Out: one `SourceFile` per loose image, or per container; a container (tar, Parquet with an `image`
column) becomes exactly one shard, so that its members need not be counted before work starts.

Keys are paths relative to the source, and everything is sorted by them. A `Slice` takes a share of
the images by their keys.
"""

import csv
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import Store, open_store, split_uri

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
ROWS_AT_ONCE = 256  # of a Parquet table: its images may be large
TAR_BLOCK = 512
HASH_BYTES = 6  # exact in a float, and below 100 percent when scaled


def percent_of(key: str) -> float:
    """Where a key hashes to in [0, 100): evenly, and the same on any machine, for ever."""
    digest = hashlib.blake2b(key.encode(), digest_size=HASH_BYTES, person=b"protege slice").digest()
    return int.from_bytes(digest, "big") / 2.0 ** (8 * HASH_BYTES) * 100


@dataclass(frozen=True)
class Slice:
    """The images whose keys hash into [start, end) percent. No image moves when others come."""

    start: float = 0.0
    end: float = 100.0

    @property
    def is_whole(self) -> bool:
        """Whether it has every image, so that none need be hashed."""
        return self.start <= 0 and self.end >= 100

    def __contains__(self, key: str) -> bool:
        return self.is_whole or self.start <= percent_of(key) < self.end

    def __str__(self) -> str:
        return f"the slice from {self.start:g} to {self.end:g} percent"


WHOLE = Slice()


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


def list_source(uri: str, *, labelled: bool, within: Slice = WHOLE) -> list[SourceFile]:
    """The files of a source, sorted by key: loose images of the slice, and all containers.

    Raises ProtegeError when there is nothing to be found, or nothing that looks like images.
    """
    if not uri:
        raise ProtegeError("no source was given: set it to a folder of images or an s3:// prefix")
    try:
        entries = _find(uri, labelled=labelled)
    except OSError as error:
        raise ProtegeError(f"{uri} cannot be read: {error}") from error
    if not entries:
        raise ProtegeError(
            f"{uri}: no images found, or no such place. Give a folder of images, of .tar or of "
            ".parquet files, or a list of images (.csv or .txt)"
        )
    for entry in entries:
        _check_entry(entry)
    return sorted(_sliced(uri, entries, within), key=lambda entry: entry.key)


def _sliced(uri: str, entries: list[SourceFile], within: Slice) -> list[SourceFile]:
    if within.is_whole:
        return entries
    inside = [entry for entry in entries if entry.is_container or entry.key in within]
    if not inside:
        raise ProtegeError(
            f"{uri}: none of its {len(entries):,} images is in {within}. Widen from_percent and "
            "to_percent, or add images"
        )
    return inside


def _find(uri: str, *, labelled: bool) -> list[SourceFile]:
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in LIST_SUFFIXES | CONTAINER_SUFFIXES:
        parent, name = split_uri(uri)
        found = parent.sizes(name)
        if name in found and suffix in LIST_SUFFIXES:
            return list(_read_list(parent, name, labelled=labelled))
        if name in found:
            return [SourceFile(name, f"{parent.uri}/{name}", found[name].size, found[name].version)]
        if not found:
            raise ProtegeError(f"{uri}: there is no such file")
    # What looks like a file may be a folder: Spark writes tables as folders named x.parquet.
    store = open_store(uri)
    entries = _walk(store, labelled=labelled)
    if labelled and entries:
        _check_class_folders(store, entries)
    return entries


def _check_entry(entry: SourceFile) -> None:
    try:
        entry.key.encode()
    except UnicodeEncodeError:
        raise ProtegeError(f"the name {entry.key!r} is not UTF-8: rename this file") from None
    if entry.is_container and entry.size > MAX_CONTAINER_BYTES:
        raise ProtegeError(
            f"{entry.uri} has {entry.size >> 20:,} MiB, and a container is one shard: split it "
            f"into files of at most {MAX_CONTAINER_BYTES >> 20:,} MiB"
        )


def folder_label(key: str) -> str | None:
    """The name of the folder that an image lies in, which is its class in a labelled source."""
    return PurePosixPath(key).parent.name or None


def _walk(store: Store, *, labelled: bool) -> list[SourceFile]:
    entries = []
    for key, found in store.sizes().items():
        if is_image_name(key):
            label = folder_label(key) if labelled else None
            entries.append(SourceFile(key, f"{store.uri}/{key}", found.size, found.version, label))
    return entries


def is_image_name(key: str) -> bool:
    """Whether a file is worth opening: not hidden, and not a known companion of images."""
    path = PurePosixPath(key)
    hidden = any(step.startswith(".") and step != ".." for step in path.parts)
    sidecar = path.suffix.lower() in SIDECAR_SUFFIXES or path.name.lower() in SIDECAR_NAMES
    return not (hidden or sidecar or SIDECAR_FOLDERS.intersection(key.lower().split("/")))


def is_container_name(key: str) -> bool:
    """Whether a file holds images instead of being one."""
    return PurePosixPath(key).suffix.lower() in CONTAINER_SUFFIXES


def _check_class_folders(store: Store, entries: list[SourceFile]) -> None:
    """A local folder without images is a class that somebody forgot; S3 has no empty folders."""
    folder = Path(store.uri)
    if not folder.is_dir():
        return
    filled = {PurePosixPath(entry.key).parts[0] for entry in entries}
    for item in sorted(folder.iterdir()):
        if item.is_dir() and is_image_name(item.name) and item.name not in filled:
            raise ProtegeError(
                f"class {item.name!r} has no image: there is none in {item}. Put images into it, "
                "or remove the folder"
            )


def _read_list(store: Store, name: str, *, labelled: bool) -> Iterator[SourceFile]:
    for row in _list_rows(store, name, labelled=labelled):
        key = (row["uri"] or "").strip()
        place = key
        if "://" not in key:
            place = key if key.startswith("/") else f"{store.uri}/{key}"
        elif not key.startswith(("s3://", "file://")):
            raise ProtegeError(
                f"{store.uri}/{name}: {key} cannot be opened; use paths, file:// or s3:// URIs"
            )
        tags = tuple(row["tags"].split()) if row.get("tags") else None
        # The list names the files; asking the store about each would cost a request an image.
        yield SourceFile(key, place, -1, "listed", (row.get("label") or "").strip() or None, tags)


def _list_rows(store: Store, name: str, *, labelled: bool) -> list[dict[str, str]]:
    """The rows of a list, which has a column `uri`, and `label` where it must tell classes."""
    place = f"{store.uri}/{name}"
    try:
        text = store.read(name).decode("utf-8-sig")  # spreadsheets put a mark in front
        if name.lower().endswith(".txt"):
            rows = [{"uri": line} for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProtegeError(f"{place} is not a list in UTF-8 text: {error}") from None
    needed = ("uri", "label") if labelled else ("uri",)
    for column in needed:
        if rows and column not in rows[0]:
            raise ProtegeError(
                f"{place}: give a .csv file whose first line names the columns "
                f"{' and '.join(needed)}; {column!r} is missing"
            )
    return rows


def read_container(entry_uri: str) -> Iterator[tuple[str, bytes, int | None, str | None]]:
    """The images of a tar or Parquet file: (key, bytes, offset in the file or None, label).

    Members of a tar are taken in the order of the archive, rows of a table in theirs.
    """
    store, name = split_uri(entry_uri)
    if name.lower().endswith(".tar"):
        yield from _read_tar(store, name)
    else:
        yield from _read_parquet(store, name)


def _read_tar(store: Store, name: str) -> Iterator[tuple[str, bytes, int | None, str | None]]:
    data = store.read(name)
    # Not compressed: the offsets of its members must be those in the file.
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        members = archive.getmembers()
        _check_tar_end(store, name, memoryview(data)[archive.offset :])
        for member in members:
            # A symbolic link has no bytes, and becomes a reject like every empty file.
            is_file = member.isreg() or member.islnk() or member.issym()
            if is_file and is_image_name(member.name):
                place = archive.getmember(member.linkname) if member.islnk() else member
                image = data[place.offset_data : place.offset_data + place.size]
                yield member.name, image, place.offset_data, folder_label(member.name)


def _check_tar_end(store: Store, name: str, rest: memoryview) -> None:
    """The reader ends in silence at a torn member, and at the seam of two archives in one file."""
    if len(rest) < TAR_BLOCK or bytes(rest).strip(b"\0"):
        raise ProtegeError(
            f"{store.uri}/{name} is no whole tar file: it is cut off, or another one was "
            "appended to it. Pack these images again"
        )


def _read_parquet(store: Store, name: str) -> Iterator[tuple[str, bytes, int | None, str | None]]:
    with store.open(name) as file:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        if "image" not in names or not _holds_bytes(parquet.schema_arrow.field("image").type):
            raise ProtegeError(
                f"{store.uri}/{name}: a table of images needs a column 'image' of bytes"
            )
        columns = [column for column in ("image", "key", "label") if column in names]
        row = 0
        for batch in parquet.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
            for values in batch.to_pylist():
                image = values["image"]
                # Hugging Face tables wrap the bytes together with a path.
                data = image["bytes"] if isinstance(image, dict) else image
                label = values.get("label")
                key = f"{row:09d}" if values.get("key") is None else values["key"]
                yield str(key), data or b"", None, None if label is None else str(label)
                row += 1


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
