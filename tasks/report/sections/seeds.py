"""Seeds: the result of the same settings with other seeds, run by run and on average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.report import plots
from tasks.report.format import number, percent, points
from tasks.report.sections import ReportData, Section


@dataclass(frozen=True)
class SpreadRow:
    """How a figure varies over the runs, as text."""

    title: str
    mean: str
    deviation: str
    lowest: str
    highest: str


def applies(data: ReportData) -> bool:
    """There are runs to compare, and two models in each of them."""
    story = data.story
    return len(story.spread) > 1 and bool(story.result) and bool(story.compared_with)


def facts(data: ReportData) -> Mapping[str, Any]:
    """A plot of all runs, and a row for each figure."""
    story = data.story
    result, compared = story.role(story.result).noun, story.role(story.compared_with).noun
    compared_top1 = [run[f"{story.compared_with}_top1"] for run in story.spread]
    result_top1 = [run[f"{story.result}_top1"] for run in story.spread]
    pairs = list(zip(compared_top1, result_top1, strict=True))
    gains = [after - before for before, after in pairs]
    return {
        "plot": plots.seed_dots(
            [(100 * before, 100 * after) for before, after in pairs],
            [f"seed {run['seed']:g}" for run in story.spread],
            f"the {compared} and the {result}",
        ),
        "num_runs": len(story.spread),
        "result": result,
        "compared": compared,
        "rows": [
            _row(f"{compared.capitalize()}, top-1", compared_top1),
            _row(f"{result.capitalize()}, top-1", result_top1),
            _row("Gain, in points", gains, is_gain=True),
        ],
    }


def _row(title: str, values: Sequence[float], *, is_gain: bool = False) -> SpreadRow:
    text = points if is_gain else percent
    deviation = number(100 * float(np.std(values, ddof=1)), 1)
    return SpreadRow(
        title, text(float(np.mean(values))), deviation, text(min(values)), text(max(values))
    )


SECTION = Section("seeds", "Seeds", applies, facts)
