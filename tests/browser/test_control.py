"""A run under control: cancelled at work, approved or not before its expensive part."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from flows.billion_scale.options import BillionScale
from tests.browser.pages import (
    act,
    answer,
    box,
    expect_state,
    fill,
    open_run,
    shoot,
    switch,
)
from tests.browser.small import small, write_truth
from tests.builders.waiting import wait_for
from tests.operate.campaigns import slow
from tests.operate.served import Served

DEFAULT = "billion-scale/default"


@pytest.fixture(scope="module")
def audit(served: Served, pictures: Path) -> Path:
    """The true classes of the pile."""
    place = served.folder / "truth.csv"
    write_truth(pictures, place)
    return place


def words(served: Served, run_id: str) -> Iterator[str]:
    """The command lines of a run's processes."""
    for process in served.flow_processes(run_id):
        yield " ".join(process.cmdline())


def at_work(served: Served, run_id: str) -> bool:
    """Whether a training goes on, beside the processes of Dask."""
    lines = list(words(served, run_id))
    parts = ("prefect.engine", "tasks.train", "multiprocessing")
    return all(any(part in line for line in lines) for part in parts)


def trained(served: Served, run_id: str) -> bool:
    """Whether the training has said how far it is."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "type": {"any_": ["progress"]}}}
    found = served.ask("artifacts/filter", wanted)
    return any("train teacher" in one["description"] for one in found)


@pytest.mark.short
def test_cancel_ends_the_run_and_all_its_processes(
    served: Served, page: Page, pictures: Path
) -> None:
    # Cut in another way, so that Dask has to work before the training does.
    options = slow(pictures, 600, labelled={"images_per_shard": 5})
    run_id = served.start(DEFAULT, options.model_dump(mode="json"))
    open_run(page, served, run_id)
    wait_for(lambda: trained(served, run_id), "the teacher trains")
    assert at_work(served, run_id)
    question = act(page, "Cancel")
    started = time.monotonic()
    answer(question, "Cancel Flow Run")
    wait_for(lambda: not served.flow_processes(run_id), "its processes are gone")
    gone = time.monotonic() - started
    served.await_state(run_id, "Cancelled")
    ended = time.monotonic() - started
    print(f"cancelled in the browser: processes gone in {gone:.1f} s, Cancelled in {ended:.1f} s")
    expect_state(page, "Cancelled")


def suspended(served: Served, page: Page, options: BillionScale) -> str:
    """Start a run, wait until it asks, and open its page; no process waits with it."""
    run_id = served.start(DEFAULT, options.model_dump(mode="json"))
    open_run(page, served, run_id)
    expect_state(page, "Suspended")
    wait_for(lambda: not served.flow_processes(run_id), "its process is gone")
    return run_id


@pytest.mark.short
def test_approved_run_goes_on_with_the_note_in_its_log(
    served: Served, page: Page, pictures: Path, audit: Path
) -> None:
    options = small(pictures, audit, evaluate={"seed": 1}, approval={"before": "score"})
    run_id = suspended(served, page, options)
    question = act(page, "Resume")
    for text in ("score: 60 images", "pretrained: mean_colour, 150 steps of 8"):
        expect(question.get_by_role("listitem").filter(has_text=text)).to_be_visible()
    expect(box(question, "Go on").get_by_role("switch")).to_be_checked()
    fill(question, "Note", value="cheap enough")
    shoot(page, "approval")
    answer(question, "Resume")
    expect_state(page, "Completed")
    served.await_line(run_id, "score was approved: cheap enough")


def test_run_that_is_not_approved_ends_with_the_note(
    served: Served, page: Page, pictures: Path, audit: Path
) -> None:
    options = small(pictures, audit, evaluate={"seed": 2}, approval={"before": "score"})
    run_id = suspended(served, page, options)
    question = act(page, "Resume")
    switch(question, "Go on", on=False)
    fill(question, "Note", value="not this week")
    answer(question, "Resume")
    expect_state(page, "Failed")
    open_run(page, served, run_id, "Details")
    expect(page.get_by_text("score was not approved: not this week")).to_be_visible()
