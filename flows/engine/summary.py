"""Summary: the figures of a campaign on the page of its flow run."""

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.campaign.run import Run
from flows.campaign.summary import accuracy_text, accuracy_title, notes, top1_rows


def publish_summary(result: Mapping[str, Any], run: Run, link: str) -> None:
    """Show accuracy, counts and the way to the report."""
    lines = []
    if accuracies := top1_rows(result):
        lines += [f"| | {accuracy_title(result)} |", "|---|---|"]
        lines += [f"| {title} | {accuracy_text(top1, result)} |" for title, top1 in accuracies]
    for note in notes(result):
        lines += ["", note]
    lines += ["", "| output | rows kept | rejected | seconds |", "|---|---|---|---|"]
    for role, output in run.outputs().items():
        counts = f"{output.kept:,} | {output.rejected:,} | {output.seconds:,.1f}"
        lines.append(f"| {role} | {counts} |")
    if link:
        lines += ["", f"[Report]({link})" if link.startswith("http") else f"Report: `{link}`"]
    lines += ["", f"Campaign `{result['campaign']}`"]
    create_markdown_artifact("\n".join(lines), description="Summary")
