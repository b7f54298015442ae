"""Rejects: images that could not be used, files passed over, and candidates that were dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import Output
from tasks.report.sections import ReportData, Section
from tasks.topk import describe_dropped
from tasks.unused import Unused, unused_of

STAGES = ("shard", "score")  # they decode images, so they are listed even when all could be used


@dataclass(frozen=True)
class RejectRow:
    """The images of an output that could not be used, and the files that it passed over."""

    role: str
    rows_in: int
    rejected: int
    unused: Unused


def applies(data: ReportData) -> bool:
    """An output may have rejects."""
    return bool(_outputs(data))


def facts(data: ReportData) -> Mapping[str, Any]:
    """A row for each output, and a sentence for each reason for which candidates were dropped."""
    dropped = describe_dropped(data.choice.classes.to_pylist()) if data.choice else []
    rows = [
        RejectRow(role, output.rows_in, output.rejected, unused_of(output))
        for role, output in _outputs(data).items()
    ]
    return {"rows": rows, "dropped": dropped}


def _outputs(data: ReportData) -> dict[str, Output]:
    return {
        role: output
        for role, output in data.story.outputs.items()
        if output.stage in STAGES or output.rejected
    }


SECTION = Section("rejects", "Rejects", applies, facts, "rejects")
