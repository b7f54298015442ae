"""Tars: the images in a tar file, each with what stands beside it.

A tar is read by samples, as webdataset writes them: files that have the path up to the first dot
of their name in common belong together. In it stand an image and notes: `.cls`, `.json` and `.txt`
may hold its label or its tags. Every other file is passed over.
"""

import io
import posixpath
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from infra.store import Store
from tasks.shard.sources.files import MAX_IMAGE_BYTES, escaped
from tasks.shard.sources.magic import looks_like_image
from tasks.shard.sources.names import Kind, ending_of, kind_of
from tasks.shard.sources.notes import NOTE_ENDINGS, Notes
from tasks.shard.sources.places import Place
from tasks.shard.sources.reading import BadContainer, Member, Reading

TAR_BLOCK = 512
BLOCK_BYTES = 1 << 20
COMPRESSED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\3\4")
MAGIC_BYTES = max(map(len, COMPRESSED_MAGIC))


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
    with store.local_file(name) as opened:
        if opened.read(MAGIC_BYTES).startswith(COMPRESSED_MAGIC):
            raise BadContainer(f"{place} is compressed: unpack it to .tar")
        opened.seek(0)
        # Not compressed: the offsets of its members must be those in the file.
        with tarfile.open(fileobj=opened, mode="r:") as tar:
            archive = _Archive(tar, opened, reading)
            files = archive.list_files()
            archive.check_end(place)
            images = archive.images(files)
            notes = Notes(place, reading, archive.reader_of_notes(files))
            for file in images:
                yield archive.member(file, notes)
    bases = {base for file in images for base in (file.stem, file.sample)}
    taken = {file.name for file in images}
    for file in files:
        is_note = file.ending in NOTE_ENDINGS and file.stem in bases
        if file.name not in taken and file.kind is not Kind.HIDDEN and not is_note:
            passed_over[ending_of(file.name)] += 1


class _Archive:
    """An open tar file, of which no more is in memory than the file that is asked for."""

    def __init__(self, tar: tarfile.TarFile, opened: BinaryIO, reading: Reading) -> None:
        self._tar, self._opened, self._in_place = tar, opened, reading.in_place
        self._size = opened.seek(0, io.SEEK_END)

    def list_files(self) -> list[_File]:
        """The files of it. A hard link means the last file of that name before it."""
        before: dict[str, tarfile.TarInfo | None] = {}
        files = []
        for member in self._tar.getmembers():
            entry: tarfile.TarInfo | None = member
            if member.islnk():
                entry = before.get(posixpath.normpath(member.linkname))
            before[posixpath.normpath(member.name)] = entry
            # A symbolic link has no bytes, and becomes a reject like every empty file.
            if member.isreg() or member.islnk() or member.issym():
                files.append(_File(escaped(member.name), entry))
        return files

    def check_end(self, place: str) -> None:
        """The reader ends in silence at a torn member, and at the seam of two archives in one file.

        Raises BadContainer.
        """
        self._opened.seek(self._tar.offset)
        rest = iter(lambda: self._opened.read(BLOCK_BYTES), b"")
        if self._size - self._tar.offset < TAR_BLOCK or any(block.strip(b"\0") for block in rest):
            raise BadContainer(
                f"{place} is no whole tar file: it is cut off, or another one was appended to it. "
                "Pack these images again"
            )

    def images(self, files: list[_File]) -> list[_File]:
        """The images, by name; by bytes, where that tells nothing and the sample has no image."""
        samples = {file.sample for file in files if file.kind is Kind.IMAGE}

        def is_image(file: _File) -> bool:
            if file.kind is Kind.UNKNOWN and file.sample not in samples:
                fits = file.entry is not None and file.entry.size <= MAX_IMAGE_BYTES
                return fits and looks_like_image(self._content(file))
            return file.kind is Kind.IMAGE

        return [file for file in files if is_image(file)]

    def reader_of_notes(self, files: list[_File]) -> Callable[[str], bytes | None]:
        """What gives the bytes of a note by its path."""
        notes = {file.stem + file.ending: file for file in files if file.ending in NOTE_ENDINGS}
        return lambda path: self._content(notes[path]) if path in notes else None

    def member(self, file: _File, notes: Notes) -> Member:
        """An image with what stands beside it."""
        label, tags = notes.of(file.name, (file.stem, file.sample))
        if file.entry is None:
            problem = "a hard link to a file that does not come before it"
            return Member(file.name, b"", None, label, tags, problem)
        if file.entry.size > MAX_IMAGE_BYTES:
            problem = f"a file of {file.entry.size >> 20:,} MiB"
            return Member(file.name, b"", None, label, tags, problem)
        is_found = self._in_place and not file.entry.issparse()
        place = Place(file.entry.offset_data) if is_found else None
        return Member(file.name, self._content(file), place, label, tags)

    def _content(self, file: _File) -> bytes:
        entry = file.entry
        if entry is None:
            return b""
        if entry.issparse():
            with self._tar.extractfile(entry) or io.BytesIO() as found:
                return found.read()
        self._opened.seek(entry.offset_data)
        # The reader makes room for as many bytes as it is asked for, and a size may be a lie.
        return self._opened.read(max(0, min(entry.size, self._size - entry.offset_data)))
