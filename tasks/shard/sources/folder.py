"""A source that is a folder, on disk or on S3."""

from collections import Counter

from infra.store import Address, ObjectInfo, Store, open_object
from tasks.shard.sources.files import (
    MAX_FILES,
    NOT_UTF8,
    Listing,
    SourceFile,
    check_number,
    escaped,
)
from tasks.shard.sources.labels import folder_label
from tasks.shard.sources.magic import looks_like_image
from tasks.shard.sources.names import Kind, ending_of, kind_of
from tasks.shard.sources.reading import Reading

MAX_STRAYS = 100  # whoever has more than these has forgotten the folders of the classes
MAX_STRAY_BYTES = 1 << 28
OPENED = {Kind.IMAGE, Kind.UNKNOWN, Kind.CONTAINER}


def walk_folder(store: Store, reading: Reading) -> Listing:
    """Every file below a folder that may be an image or a container; others are counted."""
    files, passed_over = [], Counter[str]()
    listing = store.sizes(limit=MAX_FILES + 1)
    check_number(store.uri, len(listing))
    for key, found in listing.items():
        kind = kind_of(key)
        if kind in OPENED:
            files.append(_file(store, key, found, reading))
        elif kind is not Kind.HIDDEN:
            passed_over[ending_of(escaped(key))] += 1
    return Listing(files, passed_over)


def drop_stray_others(listing: Listing) -> Listing:
    """Without the files beside class folders that are no images, though no name says so.

    A stray image is an error, so a few are looked into.
    """
    strays = [
        file
        for file in listing
        if file.label is None and kind_of(file.key) is Kind.UNKNOWN and file.size <= MAX_STRAY_BYTES
    ]
    others = {file.key for file in strays[:MAX_STRAYS] if not looks_like_image(_read(file))}
    passed_over = listing.passed_over + Counter(ending_of(key) for key in others)
    return Listing([file for file in listing if file.key not in others], passed_over)


def _read(file: SourceFile) -> bytes:
    store, name = open_object(Address(file.uri))
    try:
        return store.read(name)
    except FileNotFoundError:  # a link to nothing
        return b""


def _file(store: Store, key: str, found: ObjectInfo, reading: Reading) -> SourceFile:
    name = escaped(key)
    version = found.version if name == key else NOT_UTF8
    label = None
    if reading.labelled:
        label = folder_label(name, reading.folder_level, reading.columns.label)
    # Not through an address as people type it: the key is what was listed, letter by letter.
    return SourceFile(name, f"{store.uri.rstrip('/')}/{name}", found.size, version, label)
