"""Use: where the result of the campaign is, and how to load it."""

import shlex
from collections.abc import Mapping
from typing import Any

from tasks.inference.weights import WEIGHTS
from tasks.report.sections import ReportData, Section


def applies(data: ReportData) -> bool:
    """The campaign was run for a model."""
    return data.story.result in data.story.outputs


def facts(data: ReportData) -> Mapping[str, Any]:
    """The address of its weights, and what to write in Python."""
    result = data.story.result
    weights = f"{data.story.outputs[result].uri}/{WEIGHTS}"
    return {
        "noun": data.story.role(result).noun,
        "weights": weights,
        "load": f"model = pg.load({weights!r})",
        "choice": shlex.quote(data.choice.output.uri) if data.choice else "",
    }


SECTION = Section("use", "Use it", applies, facts, "use")
