"""Rejects: what could not be used, for people and for programs.

In: an output of shard, signature, score or topk. Out: counts by reason and by the ending of the
file's name, and the names; and how many files of other kinds were passed over.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tasks.contract import Output, reject_reasons
from tasks.unused import Unused, unused_of


def reject_lines(output: Output, shown: int | None) -> Iterator[str]:
    """Counts, then so many names with their reason; None shows all."""
    rows, unused = reject_rows(output), unused_of(output)
    yield from _passed_over(unused)
    if not rows:
        yield "there are no rejects"
        return
    yield f"{output.rejected:,} of {output.rows_in:,} images cannot be used"
    for reason, (count, endings) in unused.reason_texts.items():
        yield f"  {count:,} {reason}: {endings}"
    # Rare reasons first: a few damaged images would be lost behind thousands of other files.
    rows.sort(key=lambda row: unused.reason_texts[row["reason"]][0])
    for row in rows[:shown]:
        yield f"  {row['key']}: {row['reason']} ({row['detail']})"
    if shown is not None and len(rows) > shown:
        yield f"  and {len(rows) - shown:,} more: `protege rejects --all {output.uri}` names them"


def _passed_over(unused: Unused) -> Iterator[str]:
    if unused.passed_over:
        yield (
            f"{unused.num_passed_over:,} files were passed over, for they are no images: "
            f"{unused.passed_over_text}"
        )


def reject_content(output: Output) -> dict[str, Any]:
    """All of it, for a program."""
    unused = unused_of(output)
    endings = sum((Counter(counts) for counts in unused.reasons.values()), Counter[str]())
    return {
        "rows_in": output.rows_in,
        "rejected": output.rejected,
        "reasons": reject_reasons(output),
        "endings": dict(endings.most_common()),
        "endings_by_reason": unused.reasons,
        "passed_over": unused.passed_over,
        "rejects": reject_rows(output),
    }


def reject_rows(output: Output) -> list[dict[str, Any]]:
    """Key, reason and detail of every reject, those included that were checked once more."""
    rows: list[dict[str, Any]] = output.rejects(["key", "reason", "detail"]).to_pylist()
    return rows
