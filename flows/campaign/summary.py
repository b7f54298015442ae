"""Summary: the few figures of a finished campaign, for people and for scripts.

In: a campaign and what its recipe says of its roles. Out: a dictionary (`summary.json` of the
demo), the story that the report tells, and a table in the terminal.
"""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from flows.campaign.run import Run
from flows.recipes import recipe
from infra.store import Store
from tasks.campaigns import Campaign, campaigns
from tasks.contract import Output, digest_of
from tasks.evaluate import figure, read_metrics
from tasks.inference.weights import WEIGHTS
from tasks.report import PAGE, Story, verdict_of
from tasks.report.format import number, percent

# What differs between repetitions of one experiment: where the data lie, and the seeds.
DRAWS = frozenset({"seed", "source", "audit"})


def figures(campaign: Campaign) -> dict[str, Any]:
    """Accuracies, the gain and the precision of the choice; None for what was not measured.

    Empty for a recipe that measures nothing. Without a model that the recipe is run for, there is
    no gain.
    """
    measured = measures_of(campaign)
    if measured is None:
        return {}
    known, metrics = recipe(campaign.recipe), read_metrics(measured)
    models = [
        role.name
        for role in known.roles_of(campaign.outputs)
        if role.name in measured.body["extra"]["models"]
    ]
    result = {}
    if known.result in measured.body["extra"]["models"]:
        result = {
            "gain": figure(metrics, known.result, "gain"),
            "gain_standard_error": figure(metrics, known.result, "gain_standard_error"),
            "seed": campaign.outputs[known.result].options["seed"],
        }
    return {
        **{f"{model}_top1": figure(metrics, model, "top1") for model in models},
        "test_images": _test_images(metrics),
        "chosen_precision": figure(metrics, "chosen", "precision"),
        **result,
        "classes": digest_of(measured.classes),
    }


def measures_of(campaign: Campaign) -> Output | None:
    """The last measures of the model that it is run for; before there are any, the last ones."""
    measured = [output for output in campaign.outputs.values() if output.stage == "evaluate"]
    result = recipe(campaign.recipe).result
    of_result = [output for output in measured if result in output.body["extra"]["models"]]
    return next(reversed(of_result or measured), None)


def _test_images(metrics: pa.Table) -> int:
    """The images that the accuracies rest on."""
    wanted = (pc.field("measure") == "top1") & pc.field("label").is_null()
    return max(metrics.filter(wanted & (pc.field("slice") == ""))["count"].to_pylist(), default=0)


def story_of(root: Store, campaign: Campaign) -> Story:
    """What the report tells of a campaign."""
    outputs = {
        role: output for role, output in campaign.outputs.items() if output.stage != "report"
    }
    known = recipe(campaign.recipe)
    return Story(
        recipe=campaign.recipe,
        campaign=campaign.id,
        command=f"protege resume {campaign.id} --root {root.uri}",
        outputs=outputs,
        roles=known.roles_of(outputs),
        result=known.result,
        compared_with=known.compared_with,
        spread=_spread(root, campaign, figures(campaign)),
    )


def summarise(run: Run, wall_seconds: float) -> dict[str, Any]:
    """The figures with the seconds of each stage, in this run or an earlier one, and the report."""
    outputs: Mapping[str, Output] = run.campaign.outputs
    seconds = {role: round(output.seconds, 2) for role, output in outputs.items()}
    around = max(0.0, wall_seconds - run.made_seconds)
    total = sum(output.seconds for output in outputs.values()) + around
    page = outputs.get("report")
    return {
        **figures(run.campaign),
        "verdict": verdict_of(story_of(run.store, run.campaign)),
        "recipe": run.campaign.recipe,
        "campaign": run.campaign.id,
        "seconds": {**seconds, "between stages": round(around, 2), "total": round(total, 2)},
        "report": f"{page.uri}/{PAGE}" if page else "",
        "models": model_lines(run.campaign),
    }


def top1_rows(result: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(title, top-1) of each model of a summary that was measured, in the order of the roles."""
    measured = [key.removesuffix("_top1") for key in result if key.endswith("_top1")]
    roles = recipe(result["recipe"]).roles_of(measured)
    rows = ((role.title, result.get(f"{role.name}_top1")) for role in roles)
    return [(title, top1) for title, top1 in rows if top1 is not None]


def accuracy_title(result: Mapping[str, Any]) -> str:
    """What accuracies are of."""
    # Campaigns of earlier versions did not keep the number.
    images = result.get("test_images")
    return f"right on {images:,} test images" if images else "right on the test images"


def accuracy_text(top1: float, result: Mapping[str, Any]) -> str:
    """`23.8 % ± 4.8`: as the report rounds it, with the standard error."""
    images = result.get("test_images")
    if not images:
        return percent(top1)
    return f"{percent(top1)} ± {number(100 * math.sqrt(top1 * (1 - top1) / images), 1)}"


def model_lines(campaign: Campaign) -> list[str]:
    """Where the model is that the campaign was run for, and how to use it."""
    role = recipe(campaign.recipe).result
    if role not in campaign.outputs:
        return []
    weights = f"{campaign.outputs[role].uri}/{WEIGHTS}"
    return [
        f"weights of the {recipe(campaign.recipe).name_of(role)}: {weights}",
        "use them from Python:",
        f"    import protege as pg; model = pg.load({weights!r})",
        '    model.predict(["picture.jpg"])      # labels and probabilities',
    ]


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the accuracies do not say: how good the choice was, and whether it was worth it."""
    precision = result.get("chosen_precision")
    of_choice = (
        []
        if precision is None
        else [f"precision of the chosen images, against the audit list: {percent(precision)}"]
    )
    return [*of_choice, *result.get("verdict", [])]


def show(result: Mapping[str, Any]) -> None:
    """Print the summary in the terminal."""
    console = Console(markup=False)
    title = f"campaign {result['campaign']}"
    if accuracies := top1_rows(result):
        table = Table("", accuracy_title(result), title=title)
        for model_title, top1 in accuracies:
            table.add_row(model_title, accuracy_text(top1, result))
        console.print(table)
    for line in notes(result):
        console.print(line, soft_wrap=True, highlight=False)
    _show_seconds(console, result["seconds"], None if accuracies else title)
    if result["report"]:
        console.print(f"report: {result['report']}", soft_wrap=True)
    for line in result.get("models", []):
        console.print(line, soft_wrap=True, highlight=False)


def _show_seconds(console: Console, seconds: Mapping[str, float], title: str | None) -> None:
    # A stage that was there already has the seconds of the run that made it.
    clock = Table("stage", "seconds, when it was made", title=title)
    for role, value in seconds.items():
        clock.add_row(role, f"{value:.1f}")
    console.print(clock)


def _spread(
    root: Store, campaign: Campaign, own: Mapping[str, Any]
) -> tuple[Mapping[str, float], ...]:
    """The figures of this campaign and of its finished repetitions on other seeds or draws."""
    known = recipe(campaign.recipe)
    if "seed" not in own:
        return ()  # nothing was measured of a result
    settings = _settings(campaign.options)
    others = [
        other.summary
        for other in campaigns(root, campaign.recipe)
        if other.finished
        and _settings(other.options) == settings
        and other.summary["seed"] != own["seed"]
        and other.summary["classes"] == own["classes"]
    ]
    models = (role for role in (known.compared_with, known.result) if role)
    keys = ("seed", *(f"{role}_top1" for role in models))
    runs = [{key: float(summary[key]) for key in keys} for summary in (*others, own)]
    return tuple(sorted(runs, key=lambda run: run["seed"]))


def _settings(options: Any) -> Any:
    if isinstance(options, Mapping):
        return {
            key: _settings(value)
            for key, value in options.items()
            if key not in DRAWS or isinstance(value, Mapping)
        }
    return options
