"""Sources: what a user has, as a sorted list of files.

In: the address of a folder of images, of `.tar` or `.parquet` files, or of a list (`.csv`, `.txt`).
Out: one `SourceFile` per loose image, or per container; a container (tar, Parquet with an `image`
column) becomes exactly one shard, so that its members need not be counted before work starts.

Keys are paths relative to the source, and everything is sorted by them. A `Slice` takes a share of
the images by their keys.
"""

from pathlib import PurePosixPath

from infra.errors import ProtegeError
from infra.store import open_store, split_uri
from tasks.shard.sources.containers import read_container
from tasks.shard.sources.files import (
    CONTAINER_SUFFIXES,
    LIST_SUFFIXES,
    SourceFile,
    check_file,
    is_container_name,
    is_image_name,
)
from tasks.shard.sources.folder import check_class_folders, walk_folder
from tasks.shard.sources.lists import read_list
from tasks.shard.sources.slices import WHOLE, Slice, percent_of

__all__ = [
    "WHOLE",
    "Slice",
    "SourceFile",
    "is_container_name",
    "is_image_name",
    "list_source",
    "percent_of",
    "read_container",
]


def list_source(uri: str, *, labelled: bool, within: Slice = WHOLE) -> list[SourceFile]:
    """The files of a source, sorted by key: loose images of the slice, and all containers.

    Raises ProtegeError when there is nothing to be found, or nothing that looks like images.
    """
    if not uri:
        raise ProtegeError("no source was given: set it to a folder of images or an s3:// prefix")
    try:
        files = _find(uri, labelled=labelled)
    except OSError as error:
        raise ProtegeError(f"{uri} cannot be read: {error}") from error
    if not files:
        raise ProtegeError(
            f"{uri}: no images found, or no such place. Give a folder of images, of .tar or of "
            ".parquet files, or a list of images (.csv or .txt)"
        )
    for file in files:
        check_file(file)
    return sorted(_sliced(uri, files, within), key=lambda file: file.key)


def _sliced(uri: str, files: list[SourceFile], within: Slice) -> list[SourceFile]:
    if within.is_whole:
        return files
    inside = [file for file in files if file.is_container or file.key in within]
    if not inside:
        raise ProtegeError(
            f"{uri}: none of its {len(files):,} images is in {within}. Widen from_percent and "
            "to_percent, or add images"
        )
    return inside


def _find(uri: str, *, labelled: bool) -> list[SourceFile]:
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in LIST_SUFFIXES | CONTAINER_SUFFIXES:
        parent, name = split_uri(uri)
        found = parent.sizes(name)
        if name in found and suffix in LIST_SUFFIXES:
            return list(read_list(parent, name, labelled=labelled))
        if name in found:
            return [SourceFile(name, f"{parent.uri}/{name}", found[name].size, found[name].version)]
        if not found:
            raise ProtegeError(f"{uri}: there is no such file")
    # What looks like a file may be a folder: Spark writes tables as folders named x.parquet.
    store = open_store(uri)
    files = walk_folder(store, labelled=labelled)
    if labelled and files:
        check_class_folders(store, files)
    return files
