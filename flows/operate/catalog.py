"""Catalog: every deployment of protege, from the recipes and the stages.

In: `flows/recipes.py` and the flows of the stages. Out: `Deployment`s, and `prefect.yaml` as
text, for users who register them with Prefect's own commands.

    python -m flows.operate.catalog > prefect.yaml
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import yaml

from flows.campaign.stages import STAGES
from flows.operate.state import WORK_POOL
from flows.recipes import RECIPES, Recipe

FLOWS = "flows.engine.flows"
NIGHTLY_CRON = "0 3 * * *"
TIMEZONE = "UTC"

HEADER = """\
# Every flow of protege as a deployment, for Prefect's own commands:
#
#     prefect work-pool create protege --type process
#     prefect deploy --all --prefect-file prefect.yaml
#     prefect worker start --pool protege
#
# Written by `python -m flows.operate.catalog > prefect.yaml`. Edit only the schedule here (cron,
# timezone, active), and the recipes for anything else.
"""


@dataclass(frozen=True)
class Deployment:
    """A flow, the name of its deployment, and the values of its form."""

    module: str
    function: str
    name: str
    about: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    # Runs by hand wait for the active one; a scheduled run is cancelled while another is active.
    collision: str = "ENQUEUE"
    cron: str = ""

    def load(self) -> Any:
        """The flow."""
        return getattr(import_module(self.module), self.function)

    @property
    def entrypoint(self) -> str:
        """The flow's place in a checkout."""
        return f"{self.module.replace('.', '/')}.py:{self.function}"


def deployments() -> Iterator[Deployment]:
    """Each recipe with each preset, each stage alone, the report, the recheck and retraining."""
    for recipe in RECIPES.values():
        for preset, about in recipe.presets.items():
            yield _recipe(recipe, preset, f"{recipe.about}; {about}")
    for stage in STAGES.values():
        yield Deployment(FLOWS, stage.name, "single", f"The stage {stage.name} by itself")
    report = "Write the report of a finished campaign again"
    yield Deployment(FLOWS, "report", "single", report)
    recheck = "Check rejected files once more"
    yield Deployment(FLOWS, "recheck", "single", recheck)
    retrain = "Train again on what is new in the sources, and promote the student if it is better"
    yield Deployment("flows.retrain.flow", "retrain", "by-hand", retrain)
    # Of its own: what arrives during a scheduled run must not be cancelled as that would be.
    yield Deployment("flows.retrain.flow", "retrain", "arrived", f"{retrain}; for new data")
    yield Deployment(
        "flows.retrain.flow",
        "retrain",
        "scheduled",
        retrain,
        collision="CANCEL_NEW",
        cron=NIGHTLY_CRON,
    )


def _recipe(recipe: Recipe, preset: str, about: str) -> Deployment:
    parameters = changed_sections(recipe.load_options()(), recipe.preset(preset))
    return Deployment(FLOWS, recipe.function, preset, about, parameters)


def changed_sections(default: Any, options: Any) -> dict[str, Any]:
    """The sections that differ, whole: Prefect merges parameters at the top level only."""
    names = type(options).model_fields
    return {
        name: getattr(options, name).model_dump(mode="json")
        for name in names
        if getattr(options, name) != getattr(default, name)
    }


def prefect_yaml() -> str:
    """The catalog as Prefect's project file."""
    entries = []
    for deployment in deployments():
        entry: dict[str, Any] = {
            "name": deployment.name,
            "description": deployment.about,
            "entrypoint": deployment.entrypoint,
            "parameters": dict(deployment.parameters),
            "concurrency_limit": {"limit": 1, "collision_strategy": deployment.collision},
            "work_pool": {"name": WORK_POOL},
        }
        if deployment.cron:
            entry["schedules"] = [{"cron": deployment.cron, "timezone": TIMEZONE, "active": False}]
        entries.append(entry)
    body = {"name": "protege", "deployments": entries}
    return HEADER + "\n" + yaml.safe_dump(body, sort_keys=False, width=100)


if __name__ == "__main__":
    sys.stdout.write(prefect_yaml())
