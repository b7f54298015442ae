"""Sources: what a user has, as a sorted list of files.

In: the address of a folder of images, of `.tar` or `.parquet` files, or of a list (`.csv`, `.tsv`,
`.jsonl`, `.txt`). Out: one `SourceFile` per loose image, or per container; a container (tar,
Parquet) becomes exactly one shard, so that its members need not be counted before work starts.

Keys are paths relative to the source, and everything is sorted by them. `Patterns` and a `Slice`
take some of the images by their keys. Files of other kinds are passed over, and counted.
"""

from dataclasses import replace
from pathlib import PurePosixPath

from infra.errors import ProtegeError
from infra.store import open_store, split_uri
from tasks.shard.sources.allowed import Confinement
from tasks.shard.sources.class_folders import check_class_folders, check_filled
from tasks.shard.sources.columns import GUESSED, Columns
from tasks.shard.sources.containers import read_container
from tasks.shard.sources.files import (
    MAX_IMAGE_BYTES,
    NOT_UTF8,
    UNKNOWN_VERSION,
    Listing,
    SourceFile,
    check_file,
    check_number,
)
from tasks.shard.sources.folder import drop_stray_others, walk_folder
from tasks.shard.sources.labels import label_text
from tasks.shard.sources.lists import read_list
from tasks.shard.sources.names import (
    CONTAINER_SUFFIXES,
    LIST_SUFFIXES,
    Kind,
    ending_of,
    is_compressed_name,
    is_container_name,
    is_image_name,
    is_list_name,
    kind_of,
)
from tasks.shard.sources.pages import decompress
from tasks.shard.sources.parquet import TableSize, table_size
from tasks.shard.sources.passed_over import describe_passed_over
from tasks.shard.sources.patterns import EVERY_KEY, Patterns
from tasks.shard.sources.places import Page, Place
from tasks.shard.sources.reading import BadContainer, Member, Reading
from tasks.shard.sources.rows import Row, read_rows
from tasks.shard.sources.slices import WHOLE, Slice, percent_of

__all__ = [
    "MAX_IMAGE_BYTES",
    "NOT_UTF8",
    "UNKNOWN_VERSION",
    "BadContainer",
    "Columns",
    "Kind",
    "Listing",
    "Member",
    "Page",
    "Patterns",
    "Place",
    "Reading",
    "Row",
    "Slice",
    "SourceFile",
    "TableSize",
    "decompress",
    "describe_passed_over",
    "ending_of",
    "is_container_name",
    "is_image_name",
    "is_list_name",
    "kind_of",
    "label_text",
    "list_source",
    "percent_of",
    "read_container",
    "read_list_rows",
    "table_size",
]


def list_source(
    uri: str,
    *,
    labelled: bool,
    within: Slice = WHOLE,
    patterns: Patterns = EVERY_KEY,
    columns: Columns = GUESSED,
    class_level: int = 0,
) -> Listing:
    """The files of a source: loose images of the slice, and all containers that may be wanted.

    Raises ProtegeError when there is nothing to be found, nothing that looks like images, or when
    it is not sure what the classes of a labelled source are.
    """
    if not uri:
        raise ProtegeError("no source was given: set it to a folder of images or an s3:// prefix")
    confinement = Confinement.of_settings()
    confinement.check(uri)
    reading = Reading(labelled, columns, class_level)
    try:
        listing = _find(uri, reading, patterns)
    except OSError as error:
        raise ProtegeError(f"{uri} cannot be read: {error}") from error
    for file in listing:
        check_file(file)
        # A list, and a link in a folder, may name any file.
        confinement.check(file.uri)
    files = sorted(_sliced(uri, listing.files, within), key=lambda file: file.key)
    return Listing(files, listing.passed_over)


def read_list_rows(uri: str) -> list[Row]:
    """The rows of any list, which need not be of images. Raises ProtegeError, with the line."""
    Confinement.of_settings().check(uri)
    store, name = split_uri(uri)
    try:
        return read_rows(store, name)
    except FileNotFoundError:
        raise ProtegeError(f"{uri}: there is no such file") from None
    except OSError as error:
        raise ProtegeError(f"{uri} cannot be read: {error}") from error


def _find(uri: str, reading: Reading, patterns: Patterns) -> Listing:
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in LIST_SUFFIXES | CONTAINER_SUFFIXES or is_compressed_name(uri):
        parent, name = split_uri(uri)
        found = parent.sizes(name)
        if name in found and is_compressed_name(uri):
            raise ProtegeError(f"{uri} is compressed: unpack it to .tar, or into a folder")
        if name in found and suffix in LIST_SUFFIXES:
            files = read_list(parent, name, reading)
            check_number(uri, len(files))
            return _wanted(uri, Listing(files), patterns)
        if name in found:
            info = found[name]
            return Listing([SourceFile(name, f"{parent.uri}/{name}", info.size, info.version)])
        if not found:
            raise ProtegeError(f"{uri}: there is no such file")
    # What looks like a file may be a folder: Spark writes tables as folders named x.parquet.
    store = open_store(uri)
    listing = _wanted(uri, walk_folder(store, reading), patterns)
    if reading.labelled:
        listing = drop_stray_others(listing)
        check_class_folders(store, listing.files, reading)
        if patterns == EVERY_KEY:
            check_filled(store, listing.files)
    return listing


def _wanted(uri: str, listing: Listing, patterns: Patterns) -> Listing:
    """The files that the patterns admit. Raises ProtegeError when there are none."""
    if not listing.files:
        passed = describe_passed_over(listing.passed_over)
        there = f". It has other files: {passed}" if passed else ""
        raise ProtegeError(
            f"{uri}: no images found, or no such place. Give a folder of images, of .tar or of "
            f".parquet files, or a list of images (.csv, .tsv, .jsonl or .txt){there}"
        )
    files = [
        file
        for file in listing
        if (patterns.opens(file.key) if file.is_container else patterns.wants(file.key))
    ]
    if not files:
        raise ProtegeError(
            f"{uri}: options.include and options.exclude leave none of its {len(listing):,} "
            f"images, such as {listing.files[0].key}"
        )
    return replace(listing, files=files)


def _sliced(uri: str, files: list[SourceFile], within: Slice) -> list[SourceFile]:
    if within.is_whole:
        return files
    inside = [file for file in files if file.is_container or file.key in within]
    if not inside:
        raise ProtegeError(
            f"{uri}: none of its {len(files):,} images is in {within}. Widen options.from_percent "
            "and options.to_percent, or add images"
        )
    return inside
