"""Seeds: the accuracies of campaigns that differ in their seed alone, and what they say together.

In: a recipe, a preset, sources in folders, and seeds. Out: the top-1 of each model by seed, their
means, and the gain of the student over the baseline with its standard error.
"""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.campaign.run import Run
from tasks.contract import Output
from tasks.evaluate import figure, read_metrics

TUNING_SEEDS = 100  # from here on, seeds are for choosing settings, and are not reported


def run_campaign(
    root: Path, recipe: str, preset: str, seed: int, sets: Sequence[str]
) -> dict[str, Any]:
    """Run a campaign to its end, or take the one that is there. Returns its summary."""
    options = [part for text in sets for part in ("--set", text)]
    command = ["run", recipe, "--preset", preset, "--seed", str(seed), *options]
    done = subprocess.run(
        [sys.executable, "-m", "flows.start", *command, "--root", str(root), "--json"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def top1s(summary: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy of each model of a campaign, from 0 to 1."""
    names = [name for name in summary if name.endswith("_top1")]
    return {name.removesuffix("_top1"): float(summary[name]) for name in names}


def measure_top1(run: Run, model: Output, test: Output) -> float:
    """The accuracy of a model of no campaign."""
    measured = read_metrics(run.evaluate(test, {"model": model}))
    top1 = figure(measured, "model", "top1")
    assert top1 is not None, "it was just measured"
    return top1


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over the seeds, and its standard error, which one seed does not have."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.mean(values), error


def line(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means of all models, and the gain of the student over the baseline."""
    models = [name for name, value in rows[0].items() if isinstance(value, float)]
    means = {model: statistics.mean(row[model] for row in rows) for model in models}
    gain, error = mean_and_error([row["student"] - row["baseline"] for row in rows])
    return {
        "seeds": list(rows),
        **means,
        "gain": gain,
        "standard_error": error,
        "share_of_error_left": (1 - means["student"]) / (1 - means["baseline"]),
    }
