"""Containers: the images inside a tar or Parquet file."""

import io
import tarfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import Address, Store, open_object
from tasks.shard.sources.files import folder_label, is_image_name

ROWS_PER_BATCH = 256  # of a Parquet table: its images may be large

TAR_BLOCK = 512


def read_container(uri: str) -> Iterator[tuple[str, bytes, int | None, str | None]]:
    """The images of a tar or Parquet file: (key, bytes, offset in the file or None, label).

    Members of a tar are taken in the order of the archive, rows of a table in theirs.
    """
    store, name = open_object(Address(uri))
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
        for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
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
