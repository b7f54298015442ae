"""Ranges: where the values of a column lie in the file of a part, so that single ones can be read.

In: an open part, a column of bytes that is written plainly, and the size of each value. Out: the
first byte of each value in the file. The column has a page in each row group, which ends with its
values, each behind 4 bytes of its length (Parquet's encoding PLAIN): they are found from the end.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from infra.store import ParquetObject, Store

LENGTH_BYTES = 4


def value_offsets(
    parquet: ParquetObject, column: str, sizes_N: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The first byte of each value, shape (N,). A size of -1 is that of a value that is null."""
    lengths_N = np.where(sizes_N < 0, 0, sizes_N + LENGTH_BYTES)
    offsets_N = np.empty(len(sizes_N), np.int64)
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        of_group = parquet.metadata.row_group(group)
        chunk = of_group.column(_index_of(parquet, column))
        end = chunk.data_page_offset + chunk.total_compressed_size
        rows = slice(first, first + of_group.num_rows)
        offsets_N[rows] = end - lengths_N[rows][::-1].cumsum()[::-1] + LENGTH_BYTES
        first = rows.stop
    return offsets_N


def read_values(store: Store, name: str, values: Sequence[tuple[int, int]]) -> list[bytes]:
    """The values at these (offset, size). Raises OSError when something else is there."""
    ranges = [(offset - LENGTH_BYTES, size + LENGTH_BYTES) for offset, size in values]
    found = store.read_ranges(name, ranges)
    for data in found:
        if int.from_bytes(data[:LENGTH_BYTES], "little") != len(data) - LENGTH_BYTES:
            raise OSError(f"{name} does not have its values where its footer says")
    return [data[LENGTH_BYTES:] for data in found]


def _index_of(parquet: ParquetObject, column: str) -> int:
    """The place of a column among those of the file, where a list is another than in the schema."""
    names = [parquet.metadata.schema.column(at).path for at in range(parquet.metadata.num_columns)]
    return names.index(column)
