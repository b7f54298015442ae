"""Rejects: rows that a stage could not use, with the reason; kept + rejected = input, always."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import Store
from tasks import tables
from tasks.contract.manifest import Output
from tasks.contract.parts import Reasons, rejects_name


def write_rejects(store: Store, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Publish the rejects of a shard; called before its part, which is the commit."""
    if rows:
        table = pa.Table.from_pylist(list(rows), schema=tables.REJECTS)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        store.replace(rejects_name(shard), sink.getvalue())


def count_reasons(rejects: Iterable[tuple[str, str]]) -> Reasons:
    """The rejects, given as (key, reason), by reason and by the ending of their names, sorted."""
    reasons: dict[str, Counter[str]] = {}
    for key, reason in rejects:
        ending = PurePosixPath(key).suffix.lower() or "without an ending"
        reasons.setdefault(reason, Counter())[ending] += 1
    return {reason: dict(sorted(reasons[reason].items())) for reason in sorted(reasons)}


def reject_reasons(output: Output) -> dict[str, int]:
    """How many rows of an output were rejected for which reason, sorted by reason.

    Those with another attempt do not count.
    """
    reasons = {name: sum(endings.values()) for name, endings in output.body["reasons"].items()}
    return dict(sorted((Counter(reasons) - Counter(output.body["rechecked"])).items()))


def check_reject_share(
    output: Output,
    max_percent: float,
    source: str,
    remedy: str = "delete that folder",
    passed_over: int = 0,
) -> None:
    """Raise ProtegeError, with the counts by reason, when too many rows were rejected.

    `remedy` is what to do after the images were mended. `passed_over` rejects are files of another
    kind, for which nothing is wrong with the source; unless it has nothing else.
    """
    images, bad = output.rows_in - passed_over, output.rejected - passed_over
    if bad <= images * max_percent / 100 and (output.kept or max_percent >= 100):
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in reject_reasons(output).items())
    raise ProtegeError(
        f"{output.stage}: {output.rejected} of {output.rows_in} images of {source} cannot be used "
        f"({counts}). `protege show {output.uri}` lists them. Mend them and {remedy}, or raise "
        f"options.max_reject_percent (now {max_percent:g})"
    )
