"""Rejects: the images that could not be used, for people and for programs.

In: an output of shard, signature, score or topk. Out: counts by reason and by the ending of the
file's name, and the names.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tasks.contract import Output, reject_reasons


def reject_lines(output: Output, shown: int | None) -> Iterator[str]:
    """Counts, then so many names with their reason; None shows all."""
    rows = reject_rows(output)
    if not rows:
        yield "there are no rejects"
        return
    yield f"{output.rejected:,} of {output.rows_in:,} images cannot be used"
    for reason, count in reject_reasons(output).items():
        endings = Counter(_ending(row["key"]) for row in rows if row["reason"] == reason)
        listed = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common())
        yield f"  {count:,} {reason}: {listed}"
    for row in rows[:shown]:
        yield f"  {row['key']}: {row['reason']} ({row['detail']})"
    if shown is not None and len(rows) > shown:
        yield f"  and {len(rows) - shown:,} more: `protege rejects --all {output.uri}` names them"


def reject_content(output: Output) -> dict[str, Any]:
    """All of it, for a program."""
    rows = reject_rows(output)
    return {
        "rows_in": output.rows_in,
        "rejected": output.rejected,
        "reasons": reject_reasons(output),
        "endings": dict(Counter(_ending(row["key"]) for row in rows).most_common()),
        "rejects": rows,
    }


def reject_rows(output: Output) -> list[dict[str, Any]]:
    """Key, reason and detail of every reject, those included that were checked once more."""
    rows: list[dict[str, Any]] = output.rejects(["key", "reason", "detail"]).to_pylist()
    return rows


def _ending(key: str) -> str:
    return PurePosixPath(key).suffix.lower() or "without an ending"
