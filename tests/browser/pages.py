"""Pages: what a user does on Prefect's pages: forms, actions on a run, artifacts.

Nothing here waits for a fixed time: what is awaited is what the user would see, with the limit that
the fixture `chromium` sets, which only a hang reaches.
"""

import functools
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as NotInTime

from tests.builders.waiting import wait_for
from tests.operate.served import Served

# After so long a user presses a button once more, because the server was too busy to take it.
PRESS_AGAIN_MS = 20_000
EDITORS = ".cm-editor, .monaco-editor"
BUSY = "Service Unavailable"


def open_form(page: Page, served: Served, deployment: str) -> None:
    """The form of a deployment, by flow/name."""
    place = served.deployment(deployment)["id"]
    page.goto(f"{served.ui}/v2/deployments/deployment/{place}/run")
    expect(box(page, "root")).to_be_visible()


def group(scope: Page | Locator, *path: str) -> Locator:
    """All that belongs to a field, by the titles of its sections and its own."""
    steps = []
    for depth, title in enumerate(path):
        # A section may have a field that is called like one of a section within it.
        label = f"label[normalize-space()='{title} (Optional)'][count(ancestor::fieldset)={depth}]"
        steps.append(f".//{label}/ancestor::div[contains(@class, 'group')][1]")
    return scope.locator("xpath=" + "/".join(steps))


def box(scope: Page | Locator, *path: str) -> Locator:
    """What can be changed of a field."""
    return group(scope, *path).locator("xpath=./fieldset")


def fill(scope: Page | Locator, *path: str, value: Any) -> None:
    """Type a text or a number."""
    box(scope, *path).locator("input, textarea").fill(str(value))


def choose(page: Page, *path: str, option: str) -> None:
    """Choose from a menu."""
    button = box(page, *path).get_by_role("button")
    button.click()
    page.get_by_role("option", name=option, exact=True).click()
    expect(button).to_have_text(option)


def switch(scope: Page | Locator, *path: str, on: bool) -> None:
    """Turn a switch."""
    turn(box(scope, *path).get_by_role("switch"), on=on)


def turn(button: Locator, *, on: bool) -> None:
    """Turn a switch, if it does not stand so already; it goes back when the server is too busy."""
    wanted = ("aria-checked", str(on).lower())

    def press() -> None:
        if button.get_attribute(wanted[0]) != wanted[1]:
            button.click()

    insist(press, functools.partial(expect(button).to_have_attribute, *wanted))


def insist(press: Callable[[], Any], taken: Callable[..., None]) -> None:
    """Press until it is taken, as a user would when the server was too busy the first time."""

    def done() -> bool:
        # What was to be pressed may have gone meanwhile, because it was taken after all.
        with suppress(NotInTime):
            press()
        try:
            taken(timeout=PRESS_AGAIN_MS)
        except AssertionError:
            return False
        return True

    wait_for(done, f"{taken} after {press}")


def submit(page: Page) -> str:
    """Press Submit and go to the page of the run; returns its id."""
    message = page.get_by_text(re.compile("scheduled to start|Error creating flow run")).last
    page.get_by_role("button", name="Submit").click()
    expect(message).to_be_visible()
    if BUSY in message.inner_text():
        # Two wrote to SQLite at once: whoever reads this presses again.
        page.get_by_role("button", name="Submit").click()
    page.get_by_role("link", name="View run").click()
    page.wait_for_url("**/runs/flow-run/*")
    return page.url.split("/flow-run/")[1].split("?")[0]


def open_run(page: Page, served: Served, run_id: str, tab: str = "Logs") -> None:
    """The page of a run."""
    page.goto(f"{served.ui}/v2/runs/flow-run/{run_id}?tab={tab.replace(' ', '')}")
    expect(page.get_by_role("tabpanel", name=tab, exact=True)).to_be_visible()


def act(page: Page, name: str) -> Locator:
    """Choose an action from the menu of a run; returns the question that follows."""
    page.get_by_role("main").get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name=name, exact=True).click()
    question = page.get_by_role("alertdialog").or_(page.get_by_role("dialog"))
    expect(question).to_be_visible()
    return question


def answer(question: Locator, name: str) -> None:
    """Press a button of a question, which goes away; it stays when the server is too busy."""
    button = question.get_by_role("button", name=name, exact=True)
    click = functools.partial(button.click, timeout=PRESS_AGAIN_MS)
    insist(click, expect(question).to_be_hidden)


def expect_state(page: Page, name: str) -> None:
    """The state beside the name of a run; the page follows it by itself."""
    badge = page.get_by_role("main").locator("[data-slot=badge]").get_by_text(name, exact=True)
    expect(badge.first).to_be_visible()


def appears(page: Page, what: Locator) -> None:
    """Load a page that does not refresh itself until something is there."""

    def there() -> bool:
        page.reload()
        try:
            what.first.wait_for(timeout=3000)
        except NotInTime:
            return False
        return True

    wait_for(there, str(what))


def open_artifact(page: Page, served: Served, run_id: str, name: str) -> None:
    """An artifact of a run, by a word on its card."""
    open_run(page, served, run_id, "Artifacts")
    page.get_by_role("tabpanel").get_by_role("link", name=name).first.click()
    page.wait_for_url("**/artifacts/**")
    expect(page.get_by_role("tab", name="Artifact", exact=True)).to_be_visible()


def shoot(page: Page, name: str) -> None:
    """A picture for the documentation, if PROTEGE_TEST_SCREENSHOTS names a folder."""
    folder = os.environ.get("PROTEGE_TEST_SCREENSHOTS", "")
    if folder:
        # Pictures of half a change are of no use.
        page.wait_for_load_state("networkidle")
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")
