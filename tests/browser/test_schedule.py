"""A schedule: made in the browser, its runs, and its end."""

import re
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import answer, expect_state, fill, insist, shoot, turn
from tests.builders.waiting import wait_for
from tests.operate.served import Served

pytestmark = pytest.mark.short
SCHEDULED = "retrain/scheduled"
EVERY = "Every 15 seconds"


@pytest.fixture
def deployment(served: Served, page: Page) -> Page:
    """The page of the retraining that has a schedule."""
    place = served.deployment(SCHEDULED)["id"]
    page.goto(f"{served.ui}/v2/deployments/deployment/{place}")
    expect(page.get_by_role("button", name="Schedule", exact=True)).to_be_visible()
    return page


def in_state(served: Served, name: str) -> list[str]:
    """The runs of the schedule in a state, by id."""
    wanted = {
        "deployments": {"id": {"any_": [served.deployment(SCHEDULED)["id"]]}},
        "flow_runs": {"state": {"name": {"any_": [name]}}},
    }
    return [one["id"] for one in served.ask("flow_runs/filter", wanted)]


def schedules(served: Served) -> list[bool]:
    """Whether each schedule is active."""
    return [one["active"] for one in served.deployment(SCHEDULED)["schedules"]]


def switch_of(page: Page, schedule: str) -> Locator:
    """The switch that pauses a schedule."""
    return page.get_by_role("switch", name=f"toggle {schedule}", exact=True)


def test_nightly_schedule_is_there_and_paused(deployment: Page) -> None:
    expect(switch_of(deployment, "At 03:00 AM")).not_to_be_checked()


def fill_in(page: Page, root: Path) -> None:
    """Make the schedule in its dialog, which goes away without a word when the server is busy."""
    page.get_by_role("button", name="Schedule", exact=True).click()
    dialog = page.get_by_role("dialog", name="Add Schedule")
    dialog.get_by_role("tab", name="Cron").click()
    dialog.get_by_role("textbox", name="Value").fill("0 5 * * 1")
    expect(dialog.get_by_text("At 05:00 AM, only on Monday")).to_be_visible()
    dialog.get_by_role("heading", name="Add Schedule").scroll_into_view_if_needed()
    shoot(page, "schedule")
    # Tests do not wait for Monday.
    dialog.get_by_role("tab", name="Interval").click()
    dialog.get_by_role("textbox", name="Value").fill("15")
    dialog.get_by_role("combobox", name="Interval").click()
    page.get_by_role("option", name="Seconds").click()
    # Nothing can be repeated in an empty root, so each run takes seconds.
    fill(dialog, "root", value=root)
    answer(dialog, "Save")


def test_schedule_made_in_the_browser_has_its_runs(
    served: Served, deployment: Page, tmp_path: Path
) -> None:
    def make() -> None:
        if len(schedules(served)) == 1:
            fill_in(deployment, tmp_path)
        else:
            deployment.reload()

    insist(make, expect(switch_of(deployment, EVERY)).to_be_checked)
    wait_for(lambda: in_state(served, "Scheduled"), "runs are scheduled")
    deployment.get_by_role("tab", name="Upcoming").click()
    expect(deployment.get_by_text("auto-scheduled").first).to_be_visible()
    wait_for(lambda: in_state(served, "Completed"), "a scheduled run has ended")


def test_run_of_the_schedule_says_why_it_did_nothing(served: Served, page: Page) -> None:
    ended = in_state(served, "Completed")[0]
    place = served.deployment(SCHEDULED)["id"]
    page.goto(f"{served.ui}/v2/deployments/deployment/{place}")
    link = page.get_by_role("link", name=served.run(ended)["name"], exact=True)
    # The list moves with every new run, and a click may come too late.
    insist(link.click, partial(expect(page).to_have_url, re.compile("/flow-run/")))
    expect_state(page, "Completed")
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text("Skipped: there is no finished campaign in")).to_be_visible()


def test_schedule_that_is_paused_and_deleted_has_no_more_runs(
    served: Served, deployment: Page
) -> None:
    def paused() -> bool:
        turn(switch_of(deployment, EVERY), on=False)
        return not any(schedules(served))

    wait_for(paused, "the schedule is paused")
    wait_for(lambda: not in_state(served, "Scheduled"), "nothing is scheduled")

    def delete() -> None:
        if len(schedules(served)) == 2:
            switch_of(deployment, EVERY).locator("xpath=following::button[1]").click()
            deployment.get_by_role("menuitem", name="Delete").click()
            answer(deployment.get_by_role("alertdialog"), "Delete")
        else:
            deployment.reload()

    insist(delete, partial(expect(switch_of(deployment, EVERY)).to_have_count, 0))
    wait_for(lambda: schedules(served) == [False], "the schedule is gone, the other paused")
