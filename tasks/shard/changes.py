"""Changes: whether the files of a source are still those that were pinned.

In: a new listing, and what is pinned. Out: nothing, or a ProtegeError that names a file. Pinned
images stay as they were, so a correction would otherwise be ignored in silence.

A loose file is another one when its size is, or its content: where only its time has changed, its
bytes are compared with the hash of those that were read. Of very many such files (a copy of the
whole folder) a thousand are compared.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra.errors import ProtegeError
from infra.store import Address, Store, open_object
from tasks import contract, tables
from tasks.contract.parts import rejects_name
from tasks.shard.sources import UNKNOWN_VERSION, Listing, SourceFile

MAX_COMPARED = 1_000
COMPARE_THREADS = 16  # small reads wait for the store, not for the processor


@dataclass(frozen=True, slots=True)
class Pinned:
    """A file as it was at its latest attempt."""

    version: str
    label: str | None
    shard: int
    tags: Sequence[str] | None = None


def content_hash(data: bytes) -> int:
    """64 bits of SHA-256 over the bytes of an image, which processors compute by themselves.

    They make the digest of a part tell the images, also where these stay in their container.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def differs(file: SourceFile, pinned: Pinned) -> bool:
    """Whether a file is sure to be another than the one that was pinned."""
    if file.is_container:
        return (file.version, file.label) != (pinned.version, pinned.label)
    if file.label != pinned.label or list(file.tags or ()) != list(pinned.tags or ()):
        return True
    return _is_known(file, pinned) and _size(file.version) != _size(pinned.version)


def _is_known(file: SourceFile, pinned: Pinned) -> bool:
    """Whether both versions are known; of a listed file that was missing, one is not."""
    return UNKNOWN_VERSION not in {file.version, pinned.version}


def check_unchanged(
    listing: Listing, known: Mapping[str, Pinned], store: Store, *, labelled: bool
) -> None:
    """Raise ProtegeError when a pinned file is another now, or a labelled image is gone."""
    now = {file.key: file for file in listing if file.key in known}
    changed = [key for key, file in now.items() if differs(file, known[key])]
    changed += _replaced(store, _touched(now.values(), known), known)
    lost = [key for key in known if key not in now] if labelled else []
    rejected = _rejected(store, {known[key].shard for key in lost})
    gone = [key for key in lost if key not in rejected]
    if changed or gone:
        first = (changed or gone)[0]
        mended = (
            f"If they had been rejected, run `protege rejects --recheck {store.uri}`. "
            if changed
            else ""
        )
        raise ProtegeError(
            f"{len(changed)} files have changed and {len(gone)} are gone since they were pinned "
            f"(such as {first}). {mended}To pin the source anew, delete {store.uri}"
        )


def _touched(files: Iterable[SourceFile], known: Mapping[str, Pinned]) -> list[SourceFile]:
    """The loose files of the same size and another time."""
    return [
        file
        for file in files
        if not file.is_container
        and not differs(file, known[file.key])
        and _is_known(file, known[file.key])
        and file.version != known[file.key].version
    ]


def _replaced(store: Store, files: Sequence[SourceFile], known: Mapping[str, Pinned]) -> list[str]:
    """Those of these files that have another content than was read."""
    compared = files[:: -(-len(files) // MAX_COMPARED) or 1]
    hashes = dict(_hashes(store, {known[file.key].shard for file in compared}))
    with ThreadPoolExecutor(COMPARE_THREADS) as pool:
        contents = pool.map(_hash_of, [file for file in compared if file.key in hashes])
        return [key for key, found in contents if found is not None and found != hashes[key]]


def _hash_of(file: SourceFile) -> tuple[str, int | None]:
    store, name = open_object(Address(file.uri))
    try:
        return file.key, content_hash(store.read(name))
    except OSError:  # gone since it was listed, or away: nothing that could be compared
        return file.key, None


def _hashes(store: Store, shards: Iterable[int]) -> Iterator[tuple[str, int]]:
    """The hashes of the images in these shards, as far as they are made."""
    present = store.sizes() if shards else {}
    for name in (contract.part_name(shard) for shard in sorted(shards)):
        if name in present:
            part = contract.read_part(store, name, tables.IMAGES, ["key", "content_hash"])
            rows = zip(part["key"].to_pylist(), part["content_hash"].to_pylist())
            yield from rows


def _rejected(store: Store, shards: Iterable[int]) -> set[str]:
    """The rejects of these shards: whoever takes them out of the source has mended it."""
    keys: set[str] = set()
    present = store.sizes() if shards else {}
    for shard in sorted(shards):
        part, rejects = contract.part_name(shard), rejects_name(shard)
        # Rejects may be left of a part that was made again, and has none now.
        if part in present and contract.read_receipt(store, part).rejected:
            table = contract.read_part(store, rejects, tables.REJECTS, ["key"])
            keys.update(table["key"].to_pylist())
    return keys


def _size(version: str) -> str:
    # On disk the version is size and time; on S3 it has the content alone.
    return version.split("-", maxsplit=1)[0]
