"""Tars: the images in a tar file, each with what stands beside it.

A tar is read by samples, as webdataset writes them: files that have the path up to the first dot
of their name in common belong together. In it stand an image and notes: `.cls`, `.json` and `.txt`
may hold its label or its tags. Every other file is passed over.
"""

import io
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from infra.store import Store
from tasks.shard.sources.files import escaped
from tasks.shard.sources.magic import looks_like_image
from tasks.shard.sources.names import Kind, ending_of, kind_of
from tasks.shard.sources.notes import NOTE_ENDINGS, Notes
from tasks.shard.sources.reading import BadContainer, Member, Reading

TAR_BLOCK = 512
COMPRESSED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\3\4")


@dataclass(frozen=True)
class _File:
    """A file in the archive: its name in UTF-8, and the entry that has its bytes, if any has."""

    name: str
    entry: tarfile.TarInfo | None

    @property
    def kind(self) -> Kind:
        return kind_of(self.name)

    @property
    def sample(self) -> str:
        """The path up to the first dot of the name."""
        folder, slash, name = self.name.rpartition("/")
        return f"{folder}{slash}{name.partition('.')[0]}"

    @property
    def stem(self) -> str:
        """The path up to the last dot: files that know nothing of samples share it."""
        return posixpath.splitext(self.name)[0]

    @property
    def ending(self) -> str:
        return posixpath.splitext(self.name)[1].lower()


def read_tar(
    store: Store, name: str, reading: Reading, passed_over: Counter[str]
) -> Iterator[Member]:
    """The images of an archive, in its order; other files are counted in `passed_over`.

    Raises BadContainer when it cannot be read, and ProtegeError for a label that is none.
    """
    place = f"{store.uri}/{name}"
    data = store.read(name)
    if data.startswith(COMPRESSED_MAGIC):
        raise BadContainer(f"{place} is compressed: unpack it to .tar")
    # Not compressed: the offsets of its members must be those in the file.
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        files = _list_files(archive)
        _check_end(place, memoryview(data)[archive.offset :])
        images = _images(archive, data, files)
        beside = {file.stem + file.ending: file for file in files if file.ending in NOTE_ENDINGS}
        notes = Notes(place, reading, lambda key: _bytes(archive, data, beside.get(key)))
        for file in images:
            image, offset = _content(archive, data, file)
            label, tags = notes.of(file.name, (file.stem, file.sample))
            problem = "" if file.entry else "a hard link to a file that does not come before it"
            yield Member(file.name, image, offset, label, tags, problem)
    bases = {base for file in images for base in (file.stem, file.sample)}
    taken = {file.name for file in images}
    for file in files:
        is_note = file.ending in NOTE_ENDINGS and file.stem in bases
        if file.name not in taken and file.kind is not Kind.HIDDEN and not is_note:
            passed_over[ending_of(file.name)] += 1


def _list_files(archive: tarfile.TarFile) -> list[_File]:
    """The files of an archive. A hard link means the last file of that name before it."""
    before: dict[str, tarfile.TarInfo | None] = {}
    files = []
    for member in archive.getmembers():
        entry: tarfile.TarInfo | None = member
        if member.islnk():
            entry = before.get(posixpath.normpath(member.linkname))
        before[posixpath.normpath(member.name)] = entry
        # A symbolic link has no bytes, and becomes a reject like every empty file.
        if member.isreg() or member.islnk() or member.issym():
            files.append(_File(escaped(member.name), entry))
    return files


def _images(archive: tarfile.TarFile, data: bytes, files: list[_File]) -> list[_File]:
    """By their names; where these do not tell, by their bytes, unless an image has the sample."""
    samples = {file.sample for file in files if file.kind is Kind.IMAGE}

    def is_image(file: _File) -> bool:
        if file.kind is Kind.UNKNOWN and file.sample not in samples:
            return looks_like_image(_content(archive, data, file)[0])
        return file.kind is Kind.IMAGE

    return [file for file in files if is_image(file)]


def _content(archive: tarfile.TarFile, data: bytes, file: _File) -> tuple[bytes, int | None]:
    """The bytes of a file, and where they begin, when they lie there as they are."""
    entry = file.entry
    if entry is None:
        return b"", None
    if entry.issparse():
        with archive.extractfile(entry) or io.BytesIO() as found:
            return found.read(), None
    return data[entry.offset_data : entry.offset_data + entry.size], entry.offset_data


def _bytes(archive: tarfile.TarFile, data: bytes, file: _File | None) -> bytes | None:
    return None if file is None else _content(archive, data, file)[0]


def _check_end(place: str, rest: memoryview) -> None:
    """The reader ends in silence at a torn member, and at the seam of two archives in one file."""
    if len(rest) < TAR_BLOCK or bytes(rest).strip(b"\0"):
        raise BadContainer(
            f"{place} is no whole tar file: it is cut off, or another one was appended to it. Pack "
            "these images again"
        )
