"""PartDraft: a part while it is written, a few row groups at a time, and its publication.

In: a store, the name of the part and its schema; then tables. Out: the part, complete, or nothing.
No more of it is in memory than the table that is being added.

    with PartDraft(store, "part-00000.parquet", tables.LESSONS) as draft:
        draft.add(some_lessons)
        draft.add(more_lessons)
        receipt = draft.publish(RowCounts(20, 20, 0))
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from infra.store import Store
from tasks.contract.identity import TableHash, canonical
from tasks.contract.parts import FOOTER, Reasons, Receipt, RowCounts, read_receipt
from tasks.tables import ZSTD, Layout

ROW_GROUP_ROWS = 100_000  # small enough that a filter on a sorted column skips most of a big table
# A column is one page in each row group, so that a value of it can be read alone (ranges.py).
WHOLE_GROUP = 2**31 - 1


class PartDraft:
    """A part before it is published; one that never is leaves nothing behind."""

    def __init__(self, store: Store, name: str, schema: pa.Schema, layout: Layout = ZSTD) -> None:
        self._store, self._name = store, name
        self._hashed = [name for name in schema.names if name not in layout.hashed_elsewhere]
        self._hash = TableHash(schema.empty_table().select(self._hashed).schema)
        self.num_rows = 0
        with ExitStack() as opened:
            self._draft = opened.enter_context(store.draft(name))
            self._writer = opened.enter_context(
                pq.ParquetWriter(
                    self._draft.file,
                    schema,
                    compression=layout.compression,
                    data_page_size=WHOLE_GROUP,
                    column_encoding=layout.encodings,
                    use_dictionary=[name for name in schema.names if name not in layout.encodings],
                )
            )
            self._opened = opened.pop_all()

    def __enter__(self) -> "PartDraft":
        return self

    def __exit__(self, *_error: object) -> None:
        self._opened.close()

    def add(self, table: pa.Table) -> None:
        """Write rows as one row group."""
        self._hash.add(table.select(self._hashed))
        self._writer.write_table(table, row_group_size=max(len(table), 1))
        self.num_rows += len(table)

    def add_all(self, table: pa.Table) -> None:
        """Write rows as row groups of ROW_GROUP_ROWS."""
        for first in range(0, len(table), ROW_GROUP_ROWS):
            self.add(table.slice(first, ROW_GROUP_ROWS))

    def publish(
        self,
        counts: RowCounts,
        *,
        made_from: str = "",
        facts: Mapping[str, str] | None = None,
        reasons: Reasons | None = None,
    ) -> Receipt:
        """Publish what was added, or take the receipt of what somebody else has published.

        `made_from` is the digest of the part that it was made from, `reasons` are those of its
        rejects.
        """
        receipt = Receipt(
            self._name,
            counts.rows_in,
            counts.kept,
            counts.rejected,
            self._hash.digest(),
            dict(facts or {}),
            made_from,
            dict(reasons or {}),
        )
        self._writer.add_key_value_metadata({FOOTER: canonical(receipt.footer)})
        self._writer.close()
        receipt = replace(receipt, num_bytes=self._draft.file.tell())
        if not self._draft.create():
            found = read_receipt(self._store, self._name)
            if found.made_from == made_from:
                return found
            # A run that was replaced, and has not noticed it yet, made it from older images.
            self._draft.replace()
        return receipt


def write_part(
    store: Store,
    name: str,
    table: pa.Table,
    counts: RowCounts,
    *,
    made_from: str = "",
    facts: Mapping[str, str] | None = None,
    layout: Layout = ZSTD,
) -> Receipt:
    """Publish a part that is one table, as `PartDraft.publish` does."""
    with PartDraft(store, name, table.schema, layout) as draft:
        draft.add_all(table)
        return draft.publish(counts, made_from=made_from, facts=facts)
