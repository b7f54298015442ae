"""ParquetObject: a Parquet file in a store, of which the columns and row groups asked for are read.

In: an object. Out: its footer, and tables. On a disk, Arrow reads the file by itself. In an object
store, the footer says which ranges are needed: they are read together, put where they belong in
empty memory of the size of the file, and Arrow reads that. So a small file is one request, several
connections carry a large one, and threads of Arrow's never wait for Python's lock.

    with store.open_parquet("part-00000.parquet") as parquet:
        parquet.read(["image_id", "key"], parquet.groups_between("image_id", 7, 9))
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from infra.store.ranges import Range

TAIL_BYTES = 256 << 10  # most footers, and the whole of a small file, in the first request
END = b"PAR1"
LENGTH_BYTES = 4  # of the footer's length, which stands before the end

ReadRanges = Callable[[Sequence[Range]], list[bytes]]
OpenRows = Callable[[Sequence[int], Sequence[str] | None], pq.ParquetFile]


@dataclass(frozen=True)
class ParquetObject:
    """An open Parquet file: its footer, and how Arrow opens some of its rows and columns."""

    metadata: pq.FileMetaData
    num_bytes: int
    _open_rows: OpenRows

    @property
    def schema(self) -> pa.Schema:
        """The schema, as Arrow has it."""
        return self.metadata.schema.to_arrow_schema()

    def read(
        self, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
    ) -> pa.Table:
        """These columns of these row groups; all of them where none are given."""
        if groups is None:
            groups = range(self.metadata.num_row_groups)
        return self._open_rows(groups, columns).read_row_groups(groups, columns=columns)

    def head(self, num_rows: int) -> pa.Table:
        """The first rows."""
        first = self._open_rows(range(min(1, self.metadata.num_row_groups)), None)
        return pa.Table.from_batches(islice(first.iter_batches(num_rows), 1), self.schema)

    def groups_between(self, column: str, lowest: int, highest: int) -> list[int]:
        """The row groups that may hold a value from `lowest` to `highest`."""
        names = self.metadata.schema.names
        found = []
        for group in range(self.metadata.num_row_groups):
            chunk = self.metadata.row_group(group).column(names.index(column))
            known = chunk.statistics
            if known is None or not known.has_min_max:
                # Nulls have neither, and are no values.
                if known is None or known.null_count != chunk.num_values:
                    found.append(group)
            elif known.min <= highest and known.max >= lowest:
                found.append(group)
        return found


@contextmanager
def open_local(path: str) -> Iterator[ParquetObject]:
    """A file on a disk. Raises pa.ArrowInvalid or OSError when it is torn."""
    with pa.OSFile(path, "rb") as file:
        # Columns of a row group lie side by side: they are read together.
        parquet = pq.ParquetFile(file, pre_buffer=True)
        yield ParquetObject(parquet.metadata, file.size(), lambda *_: parquet)


def open_by_ranges(read_ranges: ReadRanges, num_bytes: int) -> ParquetObject:
    """An object of which ranges are read. Raises pa.ArrowInvalid or OSError when it is torn."""
    tail_start = max(0, num_bytes - TAIL_BYTES)
    (tail,) = read_ranges([(tail_start, num_bytes - tail_start)])
    footer_bytes = int.from_bytes(tail[-len(END) - LENGTH_BYTES : -len(END)], "little")
    footer_bytes += LENGTH_BYTES + len(END)
    if tail.endswith(END) and len(tail) < footer_bytes <= num_bytes:
        tail_start = num_bytes - footer_bytes
        (tail,) = read_ranges([(tail_start, footer_bytes)])
    metadata = pq.read_metadata(pa.BufferReader(tail))

    def open_rows(groups: Sequence[int], columns: Sequence[str] | None) -> pq.ParquetFile:
        # Memory that nothing is written to takes no space.
        memory = mmap.mmap(-1, num_bytes)
        memory[tail_start:] = tail
        wanted = [
            (offset, size)
            for offset, size in _chunks(metadata, groups, columns)
            if offset < tail_start
        ]
        if any(offset < 0 or size < 0 or offset + size > num_bytes for offset, size in wanted):
            raise pa.ArrowInvalid("its footer speaks of more than there is")
        for (offset, size), data in zip(wanted, read_ranges(wanted), strict=True):
            memory[offset : offset + size] = data
        return pq.ParquetFile(pa.BufferReader(pa.py_buffer(memory)), metadata=metadata)

    return ParquetObject(metadata, num_bytes, open_rows)


def _chunks(
    metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str] | None
) -> Iterator[Range]:
    """Where the values of these columns lie. Of a nested column, all that is below its name."""
    for group in groups:
        of_group = metadata.row_group(group)
        for chunk in map(of_group.column, range(of_group.num_columns)):
            path = chunk.path_in_schema
            if columns is None or any(
                path == name or path.startswith(f"{name}.") for name in columns
            ):
                offset = chunk.dictionary_page_offset or chunk.data_page_offset
                yield min(offset, chunk.data_page_offset), chunk.total_compressed_size
