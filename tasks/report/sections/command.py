"""Command: how to run the campaign again, or go on with it."""

from collections.abc import Mapping
from typing import Any

from tasks.report.sections import ReportData, Section


def applies(data: ReportData) -> bool:
    """There is a command that does it."""
    return bool(data.story.command)


def facts(data: ReportData) -> Mapping[str, Any]:
    """The command."""
    return {"command": data.story.command}


SECTION = Section("command", "Run it again", applies, facts, "again")
