"""Catalog: the deployments, their forms, and prefect.yaml, for every recipe and stage there is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.campaign.stages import STAGES
from flows.operate.catalog import FLOWS, changed_sections, deployments, prefect_yaml
from flows.recipes import RECIPES

REPOSITORY = Path(__file__).parents[1]
SNAPSHOT = Path(__file__).parent / "forms.json"
# Shapes that Prefect's UI draws badly, or that only the server checks.
BROKEN = {"anyOf", "oneOf", "discriminator", "pattern", "prefixItems"}
UNCHECKED = {"exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"}


def forms() -> dict[str, Any]:
    """The form of every flow, as JSON."""
    flows = {f"{one.module}.{one.function}": one.load() for one in deployments()}
    return {
        name: json.loads(json.dumps(flow.parameters.model_dump())) for name, flow in flows.items()
    }


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every form, with its place."""
    for flow, form in forms().items():
        for name, schema in form["properties"].items():
            yield f"{flow}.{name}", schema
        for model, definition in form.get("definitions", {}).items():
            for name, schema in definition["properties"].items():
                yield f"{flow}.{model}.{name}", schema


def test_forms_are_the_approved_ones() -> None:
    """The user's surface; after a change on purpose: `python -m tests.test_catalog`."""
    assert forms() == json.loads(SNAPSHOT.read_text())


def test_every_recipe_preset_and_stage_can_be_started() -> None:
    names = {f"{one.load().name}/{one.name}" for one in deployments()}
    for recipe in RECIPES.values():
        assert {f"{recipe.name}/{preset}" for preset in recipe.presets} <= names
    assert {f"{stage}/single" for stage in STAGES} <= names
    assert {
        "report/single",
        "recheck-rejects/single",
        "retrain/arrived",
        "retrain/by-hand",
        "retrain/scheduled",
    } <= names
    assert len(names) == len(list(deployments()))


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_form_of_a_recipe_has_every_section_in_the_order_in_which_they_run(recipe: str) -> None:
    chosen = RECIPES[recipe]
    form = forms()[f"{FLOWS}.{chosen.function}"]
    properties = form["properties"]
    assert list(properties) == [*chosen.load_options().model_fields, "root"]
    assert [one["position"] for one in properties.values()] == list(range(len(properties)))


def test_no_field_has_a_shape_that_the_ui_draws_badly() -> None:
    for place, schema in fields():
        assert not (BROKEN | UNCHECKED) & set(schema), place
        assert schema.get("type") != "object", place
        assert "default" in schema, place
        assert "position" in schema, place
        assert schema.get("description"), place
        assert "$ref" in schema or schema.get("title"), place


def test_no_form_takes_unknown_options() -> None:
    for flow, form in forms().items():
        for name, definition in form.get("definitions", {}).items():
            assert definition["additionalProperties"] is False, f"{flow}.{name}"


def test_deployments_open_with_the_values_of_their_preset() -> None:
    for recipe in RECIPES.values():
        default = recipe.load_options()()
        for preset in recipe.presets:
            wanted = recipe.preset(preset)
            offered = next(
                one
                for one in deployments()
                if (one.function, one.name) == (recipe.function, preset)
            )
            given = {
                name: getattr(default, name).model_dump() for name in type(default).model_fields
            }
            assert type(default).model_validate({**given, **offered.parameters}) == wanted
        assert changed_sections(default, default) == {}


def test_prefect_yaml_is_the_catalog() -> None:
    """After a change on purpose: python -m flows.operate.catalog > prefect.yaml."""
    written = (REPOSITORY / "prefect.yaml").read_text()
    assert written == prefect_yaml()
    assert len(yaml.safe_load(written)["deployments"]) == len(list(deployments()))


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(forms(), indent=1) + "\n")
