"""Sources of pictures: whatever a person has typed, as encoded images one after the other.

In: addresses of images, or of anything that a source can be: folders, tars, Parquet, lists. Out:
`EncodedPicture`s in the order of the addresses and of their listings, few of them in memory.

    listing = list_pictures(["cat.jpg", "photos/", "s3://bucket/pile"])
    for picture in read_pictures(listing): picture.path, picture.data
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from infra.errors import ProtegeError
from infra.prefetch import prefetch
from infra.store import Address, split_uri
from tasks.images import Unusable
from tasks.pieces import PIECE_BYTES, PIECE_IMAGES, pieces
from tasks.shard import read_loose
from tasks.shard.sources import (
    Listing,
    Reading,
    SourceFile,
    is_container_name,
    is_list_name,
    list_source,
    read_container,
)
from tasks.shard.sources.allowed import Confinement
from tasks.shard.sources.files import escaped

READ_THREADS = 16  # small reads wait for the store, not for the processor

# A file, and what stands before its key in the path of its images.
Placed = tuple[str, SourceFile]


@dataclass(frozen=True)
class EncodedPicture:
    """The bytes of an image, or the problem for which there are none."""

    path: str
    data: bytes = b""
    problem: Unusable | None = None


@dataclass(frozen=True)
class PictureListing:
    """The files behind several addresses, each with what stands before its keys.

    `passed_over` counts files of other kinds by ending; those in containers come while it is read.
    """

    sources: Sequence[tuple[str, Listing]]
    passed_over: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Placed]:
        for prefix, listing in self.sources:
            for file in listing:
                yield prefix, file

    @property
    def num_images(self) -> int | None:
        """How many images there are; None when some are in containers, which nobody has opened."""
        if any(file.is_container for _, file in self):
            return None
        return sum(len(listing) for _, listing in self.sources)

    def batch_size(self, wanted: int) -> int:
        """So many, or fewer images: a batch has one shape, and one picture would cost as many."""
        return min(wanted, self.num_images or wanted)


def list_pictures(paths: Iterable[str]) -> PictureListing:
    """List what these addresses have. Raises ProtegeError for one where nothing is to be found."""
    sources = [_list(path) for path in paths]
    passed_over = sum((listing.passed_over for _, listing in sources), Counter[str]())
    return PictureListing(sources, passed_over)


def _list(path: str) -> tuple[str, Listing]:
    """What stands before the keys of a listing, so that both together can be opened, and it."""
    store, name = split_uri(path)
    is_file = bool(path) and store.exists(name)
    if not is_file:
        return f"{_plain(path).rstrip('/')}/", list_source(path, labelled=False)
    folder = _plain(path).removesuffix(name)
    if is_list_name(name):
        # The keys are paths as the list has them, by which a person finds them again.
        return "", list_source(path, labelled=False)
    if is_container_name(name):
        return folder, list_source(path, labelled=False)
    Confinement.of_settings().check(path)
    info = store.sizes(name)[name]
    return folder, Listing([SourceFile(name, f"{store.uri}/{name}", info.size, info.version)])


def _plain(path: str) -> str:
    """An address as it was typed, but for a file:// with its percent signs."""
    return Address.parse(path).uri if path.lower().startswith("file://") else path


def read_pictures(listing: PictureListing) -> Iterator[EncodedPicture]:
    """The images in order; a piece is read while the one before is worked on.

    What cannot be read is a picture with a problem; a container that cannot is one such picture.
    """
    for in_containers, files in itertools.groupby(listing, lambda placed: placed[1].is_container):
        if not in_containers:
            yield from _read_loose(files)
            continue
        for prefix, file in files:
            yield from _read_members(prefix, file, listing.passed_over)


def _read_loose(files: Iterable[Placed]) -> Iterator[EncodedPicture]:
    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = pieces(files, _size, PIECE_IMAGES, PIECE_BYTES)
        for piece in prefetch((list(pool.map(_read_file, piece)) for piece in found), ahead=1):
            yield from piece


def _size(placed: Placed) -> int:
    # Nobody has asked for the size of a file in a list on S3.
    return placed[1].size if placed[1].size >= 0 else PIECE_BYTES // READ_THREADS


def _read_file(placed: Placed) -> EncodedPicture:
    prefix, file = placed
    path = escaped(prefix + file.key)
    try:
        candidate = read_loose(file)
    except ProtegeError as error:
        # A campaign waits for a store that is away; here it is the cause that a person wants.
        return EncodedPicture(path, problem=_unreadable(str(error.__cause__ or error)))
    problem = _unreadable(candidate.problem["detail"]) if candidate.problem else None
    return EncodedPicture(path, candidate.data, problem)


def _read_members(
    prefix: str, file: SourceFile, passed_over: Counter[str]
) -> Iterator[EncodedPicture]:
    place = escaped(prefix + file.key)
    try:
        for member in read_container(file.uri, Reading(), passed_over):
            problem = _unreadable(member.problem) if member.problem else None
            yield EncodedPicture(f"{place}/{member.name}", member.data, problem)
    except ProtegeError as error:
        yield EncodedPicture(place, problem=_unreadable(str(error)))


_unreadable = functools.partial(Unusable, "unreadable")
