"""Catalog: every deployment that protege offers, taken from the recipes and the stages there are.

In: `flows/recipes.py` and the flows of the stages. Out: `Deployment`s, and `prefect.yaml` as
text, for those who register with Prefect's own commands.

    python -m flows.operate.catalog > prefect.yaml
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import yaml

from flows.campaign.stages import STAGES
from flows.operate.supervisor import POOL
from flows.recipes import RECIPES, Recipe

FLOWS = "flows.engine.flows"
NIGHTLY = "0 3 * * *"
TIMEZONE = "UTC"

HEADER = """\
# Every flow of protege as a deployment, for Prefect's own commands:
#
#     prefect work-pool create protege --type process
#     prefect deploy --all --prefect-file prefect.yaml
#     prefect worker start --pool protege
#
# Written by `python -m flows.operate.catalog > prefect.yaml`, so edit the recipes, not this file;
# the schedule alone is meant to be changed here: cron, timezone, and active, once it shall run.
"""


@dataclass(frozen=True)
class Deployment:
    """A flow, the name under which it is offered, and the values with which its form opens."""

    module: str
    function: str
    name: str
    about: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    # Runs by hand wait for their turn; a scheduled one that finds the last at work is left out.
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
    """All of them: each recipe with each preset, each stage by itself, retraining, rejects."""
    for recipe in RECIPES.values():
        yield _recipe(recipe, "", f"{recipe.about}; with default options")
        for preset, about in recipe.presets.items():
            yield _recipe(recipe, preset, f"{recipe.about}; {about}")
    for stage in STAGES.values():
        yield Deployment(FLOWS, stage.name, "single", f"The stage {stage.name} by itself")
    page = "Write the page of a finished campaign anew"
    yield Deployment(FLOWS, "report", "single", page)
    again = "Check the files once more that could not be used"
    yield Deployment(FLOWS, "recheck", "single", again)
    train = "Train again on what is new in the sources, and promote the student if it is better"
    yield Deployment("flows.retrain.flow", "retrain", "by-hand", train)
    yield Deployment(
        "flows.retrain.flow", "retrain", "scheduled", train, collision="CANCEL_NEW", cron=NIGHTLY
    )


def _recipe(recipe: Recipe, preset: str, about: str) -> Deployment:
    parameters = changed_sections(recipe.load_options()(), recipe.preset(preset))
    return Deployment(FLOWS, recipe.function, preset or "default", about, parameters)


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
            "work_pool": {"name": POOL},
        }
        if deployment.cron:
            entry["schedules"] = [{"cron": deployment.cron, "timezone": TIMEZONE, "active": False}]
        entries.append(entry)
    body = {"name": "protege", "deployments": entries}
    return HEADER + "\n" + yaml.safe_dump(body, sort_keys=False, width=100)


if __name__ == "__main__":
    sys.stdout.write(prefect_yaml())
