"""Exchange: files of segments, by which many tasks hand rows to many others.

In: tables, each with the number of the segment that it belongs to. Out: an object of Arrow streams,
and beside it an index that says where those of each segment lie. Whoever needs a segment reads its
bytes and no others. The index is published last: what has one is complete.

    write_segments(store, "spills/spill-00017", [(3, table), (0, table), (3, table)])
    for table in read_segments(store, "spills/spill-00017", 3): ...
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from infra.store import Store, open_store
from tasks.contract import Receipt, canonical

INDEXES_KEPT = 1024  # a task after the other reads the same files

Index = Mapping[str, Any]


def index_name(name: str) -> str:
    """The object that says that a file of segments is complete."""
    return f"{name}.json"


def write_segments(
    store: Store,
    name: str,
    tables: Iterable[tuple[int, pa.Table]],
    facts: Mapping[str, str] | None = None,
) -> Receipt:
    """Publish a file of segments, which may come in any order and in pieces."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    num_rows = 0
    with store.draft(_data_name(name)) as draft:
        for segment, table in tables:
            first = draft.file.tell()
            with pa.ipc.new_stream(draft.file, table.schema) as stream:
                stream.write_table(table)
            ranges.setdefault(segment, []).append((first, draft.file.tell() - first))
            num_rows += len(table)
        # Whoever else makes it makes the same.
        draft.replace()
    index = {"ranges": ranges, "num_rows": num_rows, "facts": facts or {}}
    store.replace(index_name(name), canonical(index).encode())
    return _receipt(index_name(name), index)


def read_segments(store: Store, name: str, segment: int) -> Iterator[pa.Table]:
    """The tables of a segment; their columns lie in the bytes that were read."""
    ranges = _read_index(store.uri, name)["ranges"].get(str(segment), ())
    for data in store.read_ranges(_data_name(name), ranges):
        yield pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def read_index_receipt(store: Store, index: str) -> Receipt:
    """The receipt of a file of segments that is there, by its index."""
    return _receipt(index, json.loads(store.read(index)))


def _receipt(name: str, index: Index) -> Receipt:
    num_rows = index["num_rows"]
    return Receipt(name, num_rows, num_rows, 0, "", index["facts"])


def _data_name(name: str) -> str:
    return f"{name}.arrow"


@functools.lru_cache(maxsize=INDEXES_KEPT)
def _read_index(uri: str, name: str) -> Index:
    index: Index = json.loads(open_store(uri).read(index_name(name)))
    return index
