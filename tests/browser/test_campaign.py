"""A campaign from the form to the report: submitted, watched, failed, mended, retried, looked at.

The tests are one story and stand in its order.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from flows.billion_scale.options import BillionScale
from tasks.report.format import percent
from tests.browser.pages import (
    act,
    answer,
    appears,
    choose,
    expect_state,
    fill,
    open_artifact,
    open_form,
    open_run,
    shoot,
    submit,
    switch,
)
from tests.browser.small import small, write_truth
from tests.builders.campaign import tiny
from tests.builders.waiting import wait_for
from tests.operate.campaigns import made
from tests.operate.served import Served

DEFAULT = "billion-scale/default"
SOURCES = ("labelled", "pile", "test")
# Outputs that the run of the story makes before the stage that fails.
FINISHED = 17
NUMBER = r"[\d,.]+"


@pytest.fixture(scope="module")
def audit(served: Served, pictures: Path) -> Path:
    """The list that the run asks for; it is sound when the run begins."""
    audit = served.folder / "truth.csv"
    write_truth(pictures, audit)
    return audit


@pytest.fixture(scope="module")
def wanted(pictures: Path, audit: Path) -> BillionScale:
    """The options that the user has in mind."""
    return small(pictures, audit)


@pytest.fixture(scope="module")
def run_id(served: Served) -> str:
    """The run of the story: the first one of its deployment."""
    return str(served.runs_of(DEFAULT)[-1]["id"])


@pytest.fixture(scope="module")
def preset(served: Served, pictures: Path) -> Iterator[None]:
    """The form opens with the smallest values; the sources are still to be typed."""
    deployment = served.deployment(DEFAULT)
    place = f"deployments/{deployment['id']}"
    parameters = tiny(pictures).model_dump(mode="json")
    for name in SOURCES:
        parameters[name]["source"] = ""
    served.ask(place, {"parameters": parameters}, method="PATCH")
    yield
    served.ask(place, {"parameters": deployment["parameters"]}, method="PATCH")


@pytest.mark.usefixtures("preset")
def test_form_that_was_filled_in_starts_a_run(
    served: Served, page: Page, pictures: Path, wanted: BillionScale
) -> None:
    open_form(page, served, DEFAULT)
    for name in SOURCES:
        fill(page, name, "Source", value=pictures / name)
    choose(page, "pile", "Verify", option="header")
    fill(page, "teacher", "Length", "Amount", value=150)
    fill(page, "student", "Length", "Amount", value=150)
    switch(page, "student", "Nesterov", on=True)
    fill(page, "topk", "K", value=12)
    fill(page, "evaluate", "Audit", value=wanted.evaluate.audit)
    started = submit(page)
    expect_state(page, "Running")
    assert [run["id"] for run in served.runs_of(DEFAULT)] == [started]


def test_stage_at_work_shows_its_progress(
    served: Served, page: Page, run_id: str, audit: Path
) -> None:
    open_run(page, served, run_id, "Artifacts")
    rates = f"{NUMBER} of 150, {NUMBER} a second, {NUMBER} s left"
    card = page.get_by_role("tabpanel").get_by_text(re.compile(f"train teacher: {rates}"))
    appears(page, card)
    # The last stage but one will find that somebody has edited it meanwhile.
    audit.write_text("file,class\n1.png,red\n")
    expect_state(page, "Running")
    open_run(page, served, run_id)
    expect(page.get_by_role("log").get_by_text("shard: reads source").first).to_be_visible()
    shoot(page, "running")
    open_run(page, served, run_id, "Task Runs")
    names = page.get_by_role("tabpanel").get_by_role("link", name="train teacher", exact=True)
    expect(names).to_be_visible()


def test_campaign_has_the_options_that_were_typed(
    served: Served, run_id: str, wanted: BillionScale
) -> None:
    (campaign,) = wait_for(served.campaigns, "there is a campaign")
    assert BillionScale.model_validate(campaign.options) == wanted


def test_failed_stage_says_why_on_the_page(
    served: Served, page: Page, run_id: str, audit: Path
) -> None:
    open_run(page, served, run_id)
    expect_state(page, "Failed")
    open_run(page, served, run_id, "Details")
    expect(page.get_by_text(f"{audit}: the first line must name the columns")).to_be_visible()
    shoot(page, "failed")


def test_retry_completes_and_does_no_finished_work_again(
    served: Served, page: Page, run_id: str, audit: Path, pictures: Path
) -> None:
    before, lines_before = made(served.root), len(served.log(run_id))
    write_truth(pictures, audit)
    open_run(page, served, run_id)
    answer(act(page, "Retry"), "Retry")
    expect_state(page, "Completed")
    after = made(served.root)
    assert {name: after[name] for name in before} == before
    new = {name.split("/")[0] for name in after if name not in before}
    assert new == {"predictions", "evaluate", "report"}

    def there() -> bool:
        again = served.log(run_id)[lines_before:]
        return len([line for line in again if "all of it was already there" in line]) == FINISHED

    wait_for(there, f"the log says of {FINISHED} outputs that all was there")


def test_summary_shows_accuracy_and_counts(served: Served, page: Page, run_id: str) -> None:
    (campaign,) = served.campaigns()
    open_artifact(page, served, run_id, "Summary")
    student = page.get_by_role("row").filter(has_text="Student after fine-tuning")
    expect(student).to_contain_text(percent(campaign.summary["student_top1"]))
    pile = page.get_by_role("row").filter(has_text="pile")
    expect(pile.get_by_role("cell").nth(1)).to_have_text("60")
    expect(pile.get_by_role("cell").nth(2)).to_have_text("0")
    shoot(page, "summary")


def test_report_opens_from_the_summary(served: Served, page: Page, run_id: str) -> None:
    (campaign,) = served.campaigns()
    open_artifact(page, served, run_id, "Summary")
    page.get_by_role("tabpanel").get_by_role("link", name="Report", exact=True).click()
    page.wait_for_url(f"{served.pages}/report/*/index.html")
    expect(page.get_by_role("heading", name="Billion-scale", level=1)).to_be_visible()
    expect(page.get_by_text(campaign.id).first).to_be_visible()
    shoot(page, "report")
