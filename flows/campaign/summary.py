"""Summary: the few figures of a finished campaign, for people and for scripts.

In: the run and its measures. Out: a dictionary (`summary.json` of the demo), a table in the
terminal, and an artifact in the Prefect UI.
"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.campaign.run import Run
from tasks import contract
from tasks.campaigns import campaigns
from tasks.contract import Output
from tasks.evaluate import figure, read_metrics

MODELS = ("teacher", "baseline", "pretrained", "student")
# What differs between repetitions of one experiment: where the data lie, and the seeds.
_DRAWS = frozenset({"seed", "source", "audit"})


def figures(run: Run, measured: Output, seed: int) -> dict[str, Any]:
    """Accuracies and the precision of the choice (None when it was not measured)."""
    metrics = read_metrics(measured)
    found: dict[str, Any] = {f"{model}_top1": figure(metrics, model, "top1") for model in MODELS}
    found["chosen_precision"] = figure(metrics, "chosen", "precision")
    found["gain"] = figure(metrics, "student", "gain")
    found["gain_standard_error"] = figure(metrics, "student", "gain_standard_error")
    classes = contract.digest_of(measured.body["extra"]["classes"])
    return {**found, "seed": seed, "classes": classes, "campaign": run.campaign.id}


def spread(run: Run, mine: Mapping[str, Any]) -> tuple[Mapping[str, float], ...]:
    """The figures of this campaign and of its finished repetitions on other seeds or draws."""
    alike = _settings(run.campaign.options)
    others = [
        one.summary
        for one in campaigns(run.store, run.campaign.recipe)
        if one.finished
        and _settings(one.options) == alike
        and one.summary["seed"] != mine["seed"]
        and one.summary["classes"] == mine["classes"]
    ]
    keys = ("seed", "baseline_top1", "student_top1")
    runs = [{key: float(one[key]) for key in keys} for one in (*others, mine)]
    return tuple(sorted(runs, key=lambda one: one["seed"]))


def complete(
    found: Mapping[str, Any], run: Run, page: Output, wall_seconds: float
) -> dict[str, Any]:
    """The figures with the seconds of each stage, in this run or an earlier one, and the report."""
    outputs = {**run.outputs(), "report": page}
    seconds = {role: round(output.seconds, 2) for role, output in outputs.items()}
    around = max(0.0, wall_seconds - run.made_seconds)
    total = sum(output.seconds for output in outputs.values()) + around
    return {
        **found,
        "seconds": {**seconds, "between stages": round(around, 2), "total": round(total, 2)},
        "report": f"{page.uri}/index.html",
    }


def publish(result: Mapping[str, Any], run: Run, link: str) -> None:
    """Show the summary on the flow run's page: accuracy, counts and the way to the report."""
    # Imported here: showing a summary in the terminal needs no Prefect.
    from prefect.artifacts import create_markdown_artifact

    lines = ["| | top-1 on the test set |", "|---|---|"]
    lines += [f"| {model} | {result[f'{model}_top1']:.4f} |" for model in MODELS]
    if result["chosen_precision"] is not None:
        lines.append(f"| precision of the chosen | {result['chosen_precision']:.4f} |")
    lines += ["", "| output | rows kept | rejected | seconds |", "|---|---|---|---|"]
    for role, output in run.outputs().items():
        counts = f"{output.kept:,} | {output.rejected:,} | {output.seconds:,.1f}"
        lines.append(f"| {role} | {counts} |")
    lines += ["", f"[Report]({link})" if link.startswith("http") else f"Report: `{link}`"]
    lines += ["", f"Campaign `{result['campaign']}`"]
    create_markdown_artifact("\n".join(lines), description="Summary")


def show(result: Mapping[str, Any]) -> None:
    """Print the summary in the terminal."""
    console = Console()
    table = Table("", "top-1 on the test set", title=f"campaign {result['campaign']}")
    names = {"baseline": "supervised baseline", "pretrained": "student before fine-tuning"}
    names["student"] = "student after fine-tuning"
    for model in MODELS:
        table.add_row(names.get(model, model), f"{result[f'{model}_top1']:.3f}")
    if result["chosen_precision"] is not None:
        table.add_row("precision of the chosen images", f"{result['chosen_precision']:.3f}")
    console.print(table)
    clock = Table("stage", "seconds")
    for role, value in result["seconds"].items():
        clock.add_row(role, f"{value:.1f}")
    console.print(clock)
    console.print(f"report: {result['report']}", soft_wrap=True)


def rerun_command(run: Run) -> str:
    """The command that runs this campaign again, or goes on with it."""
    return f"protege resume {run.campaign.id} --root {run.store.uri}"


def _settings(options: Any) -> Any:
    if isinstance(options, Mapping):
        return {key: _settings(value) for key, value in options.items() if key not in _DRAWS}
    return options
