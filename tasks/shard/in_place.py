"""In place: images that were left in their file, or in a compressed page of it.

In: the address of the file, and where each image lies. Out: their bytes, which are those that were
pinned. A page is read and decompressed once, however many of its images are wanted.
"""

from collections.abc import Sequence

from infra.errors import ProtegeError
from infra.store import Address, open_object
from tasks.shard.changes import content_hash
from tasks.shard.sources import Page, decompress

Range = tuple[int, int]  # the first byte and the number of bytes
# Where an image lies in its file, or in a page of that, and the hash of its bytes.
InPlace = tuple[Range, Page | None, int]


def read_in_place(uri: str, places: Sequence[InPlace]) -> list[bytes]:
    """Images that were left in their file. Raises ProtegeError when it has changed."""
    store, name = open_object(Address(uri))
    wanted = list(dict.fromkeys(_in_file(place, page) for place, page, _ in places))
    try:
        found = dict(zip(wanted, store.read_ranges(name, wanted), strict=True))
    except OSError as error:
        raise ProtegeError(f"{uri} cannot be read any more: {error}") from error
    pages = {page: (page.offset, page.num_bytes) for _, page, _ in places if page is not None}
    try:
        contents = {page: decompress(found[where], page) for page, where in pages.items()}
    except (OSError, ValueError) as error:
        raise _changed(uri) from error
    images = []
    for (offset, size), page, known in places:
        image = contents[page][offset : offset + size] if page else found[offset, size]
        if content_hash(image) != known:
            raise _changed(uri)
        images.append(image)
    return images


def _in_file(place: Range, page: Page | None) -> Range:
    """The bytes of the file that are read for an image."""
    return place if page is None else (page.offset, page.num_bytes)


def _changed(uri: str) -> ProtegeError:
    return ProtegeError(
        f"{uri} has changed since it was pinned: put it back as it was, or give what is new in it "
        "a file of its own"
    )
