"""PartWriter: makes the part of one shard: times the work, counts rows, keeps the rejects.

In: the folder of an output and the id of a part. Out: the part, and its rejects beside it,
both published; the rejects come first, because the part is the commit.

    writer = PartWriter(uri, part)
    rows = read_shard(images, part.number, ["key"])
    writer.lap("read")
    writer.reject(image_id, key, "damaged", "unexpected end of file")
    return writer.write(scores)
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from infra.store import open_store
from tasks.contract.part_draft import PartDraft
from tasks.contract.parts import PartId, Receipt, RowCounts, part_name, timed
from tasks.contract.progress import Stopwatch
from tasks.contract.rejects import count_reasons, write_rejects
from tasks.tables import ZSTD, Layout


class PartWriter:
    """The part of one shard, before it is published."""

    def __init__(self, uri: str, part: PartId) -> None:
        self.store = open_store(uri)
        self._part = part
        self._stopwatch = Stopwatch()
        self._rejects: list[dict[str, Any]] = []

    def lap(self, kind: str) -> None:
        """Book the time since the last lap under `kind`: read, decode, compute."""
        self._stopwatch.lap(kind)

    def book(self, kind: str, seconds: float) -> None:
        """Book seconds that something else has measured."""
        self._stopwatch.book(kind, seconds)

    def forget_time(self) -> None:
        """Let the next lap begin now."""
        self._stopwatch.forget()

    def reject(self, image_id: int, key: str, reason: str, detail: str) -> None:
        """Note an image that cannot be used. A row of `write` must not hold it as well."""
        row = {"image_id": image_id, "key": key, "reason": reason, "detail": detail}
        self._rejects.append(row)

    def write(
        self,
        table: pa.Table,
        *,
        facts: Mapping[str, str] | None = None,
        layout: Layout = ZSTD,
    ) -> Receipt:
        """Publish the rejects, then the part, or take the part that somebody else has published."""
        with self.draft(table.schema, layout) as draft:
            draft.add_all(table)
            return self.publish(draft, facts)

    def draft(self, schema: pa.Schema, layout: Layout = ZSTD) -> PartDraft:
        """The part when it is too large for memory: add rows to it, then `publish` it."""
        return PartDraft(self.store, part_name(self._part.number), schema, layout)

    def publish(self, draft: PartDraft, facts: Mapping[str, str] | None = None) -> Receipt:
        """Publish the rejects, then the draft, or take what somebody else has published."""
        write_rejects(self.store, self._part.number, self._rejects)
        kept, rejected = draft.num_rows, len(self._rejects)
        counts = RowCounts(kept + rejected, kept, rejected)
        reasons = count_reasons((row["key"], row["reason"]) for row in self._rejects)
        made_from = self._part.made_from
        receipt = draft.publish(counts, made_from=made_from, facts=facts, reasons=reasons)
        self.lap("write")
        return timed(receipt, self._stopwatch)
