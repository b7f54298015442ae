"""The form of a run: what it shows, and what it refuses."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from flows.billion_scale.options import BillionScale
from flows.billion_scale.presets import digits
from flows.campaign.stages import STAGES
from flows.recipes import RECIPES
from tasks.options import Length
from tests.browser.fields import Field, choices, expected, shown
from tests.browser.pages import (
    EDITORS,
    appears,
    box,
    expect_state,
    fill,
    group,
    open_form,
    open_run,
    shoot,
    submit,
)
from tests.operate.served import Served

DIGITS = "billion-scale/digits"


@pytest.fixture(scope="module")
def fields(served: Served, user: BrowserContext) -> Sequence[Field]:
    """What the form of the demo shows."""
    page = user.new_page()
    open_form(page, served, DIGITS)
    found = shown(page)
    page.close()
    return found


def test_sections_stand_in_the_order_in_which_they_run(fields: Sequence[Field]) -> None:
    sections = [field.path[0] for field in fields if len(field.path) == 1]
    assert sections == [*BillionScale.model_fields, "root"]


def test_fields_stand_in_the_order_in_which_they_are_written(fields: Sequence[Field]) -> None:
    paths = [field.path for field in fields]
    assert paths == [field.path for field in expected(digits())] + [("root",)]
    assert paths[1:4] == [("labelled", one) for one in ("Source", "Labelled", "Include")]


def test_fields_have_the_values_of_the_preset(fields: Sequence[Field]) -> None:
    values = {field.path: field.value for field in fields}
    assert values.pop(("root",)) == ""
    assert values == {field.path: field.value for field in expected(digits())}
    assert values["labelled", "Source"] == "demo-output/data/seed-0/labelled"
    assert values["topk", "K"] == 350


def test_every_field_has_its_help_its_kind_and_its_bounds(fields: Sequence[Field]) -> None:
    assert all(field.help for field in fields)
    seen = {field.path: (field.help, field.kind, field.low, field.high) for field in fields}
    del seen["root",]
    assert seen == {
        field.path: (field.help, field.kind, field.low, field.high) for field in expected(digits())
    }


def test_choices_are_menus(served: Served, page: Page) -> None:
    open_form(page, served, DIGITS)
    shoot(page, "form")
    box(page, "teacher", "Length", "Unit").get_by_role("button").click()
    offered = page.get_by_role("listbox").get_by_role("option")
    expect(offered).to_have_text(choices(Length, "unit"))


def test_no_form_wants_json(served: Served, page: Page) -> None:
    flows = {one["id"]: one["name"] for one in served.ask("flows/filter", {})}
    # The deployments of a flow differ in their values alone.
    names = {flows[one["flow_id"]]: one["name"] for one in served.ask("deployments/filter", {})}
    assert set(names) > {*RECIPES, "retrain", *STAGES}
    for deployment in (f"{flow}/{name}" for flow, name in names.items()):
        open_form(page, served, deployment)
        expect(page.locator(EDITORS)).to_have_count(0)
        unclear = [field.path for field in shown(page) if field.kind == "unknown" or not field.help]
        assert not unclear, deployment


def test_value_out_of_bounds_is_refused_by_the_browser(served: Served, page: Page) -> None:
    open_form(page, served, DIGITS)
    fill(page, "topk", "K", value=0)
    page.get_by_role("button", name="Submit").click()
    field = box(page, "topk", "K").locator("input")
    expect(field).to_be_focused()
    message = str(field.evaluate("field => field.validationMessage"))
    assert message == "Value must be greater than or equal to 1."
    assert page.url.endswith("/run")
    assert not served.runs_of(DIGITS)


def test_value_that_only_the_server_sees_is_refused_with_its_path(
    served: Served, page: Page
) -> None:
    """A section can be typed as JSON by those who want to; no bounds are checked there."""
    open_form(page, served, DIGITS)
    group(page, "topk").get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Use JSON Input").click()
    editor = box(page, "topk").locator(".cm-content")
    # Keys that come before the editor has its value are lost, or stand beside the value.
    expect(editor).to_contain_text('"top_p"')
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text('{"k": 0, "top_p": 2}')
    expect(editor).to_have_text('{"k": 0, "top_p": 2}')
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Validation failed for field 'topk.k'")).to_contain_text(
        "0 is less than the minimum of 1"
    )
    assert not served.runs_of(DIGITS)


@pytest.mark.short
def test_rule_across_sections_fails_before_any_work(served: Served, page: Page) -> None:
    open_form(page, served, "billion-scale/imagenet-yfcc")
    fill(page, "topk", "Top p", value=11)
    run_id = submit(page)
    expect_state(page, "Failed")
    sentence = "topk.top_p (11) must be at most score.top_p (10)"
    appears(page, page.get_by_role("log").get_by_text(sentence, exact=True))
    open_run(page, served, run_id, "Details")
    expect(page.get_by_text(sentence)).to_be_visible()
    assert not served.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    assert not [one for one in served.campaigns() if one.options["topk"]["top_p"] == 11]


@pytest.mark.parametrize(
    ("deployment", "place", "value", "sentence"),
    [
        (
            "simclr-v2/imagenet",
            ("student", "Inputs", "Size"),
            96,
            "student.inputs.size (96) must be that of the network",
        ),
        (
            "semi-weakly/small",
            ("topk", "Top p"),
            6,
            "topk.top_p (6) must be at most score.top_p (5)",
        ),
        (
            "noisy-student/small",
            ("topk", "Top p"),
            6,
            "topk.top_p (6) must be at most score.top_p (5)",
        ),
    ],
)
def test_form_of_each_recipe_is_submitted_and_its_rules_are_kept(
    served: Served,
    page: Page,
    deployment: str,
    place: tuple[str, ...],
    value: int,
    sentence: str,
) -> None:
    open_form(page, served, deployment)
    fill(page, *place, value=value)
    run_id = submit(page)
    expect_state(page, "Failed")
    open_run(page, served, run_id, "Details")
    expect(page.get_by_text(sentence)).to_be_visible()
    assert not served.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})


def test_wrong_value_in_a_section_fails_with_its_path(served: Served, page: Page) -> None:
    open_form(page, served, "billion-scale/imagenet-yfcc")
    fill(page, "teacher", "Model", value="resnet51")
    run_id = submit(page)
    expect_state(page, "Failed")
    open_run(page, served, run_id, "Details")
    expect(page.get_by_text("there is no model 'resnet51'")).to_contain_text("teacher.model")
    assert not served.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
