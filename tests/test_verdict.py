"""The verdict: the page says first whether the result beats what it is compared with, and why not.

So it does of test images that are copies, on which figures mean little.
"""

import dataclasses
import re

import pytest

from infra.store import Store
from tasks.report import PAGE, ReportOptions, report
from tests.builders.stories import K, Made, campaign


def page_of(root: Store, made: Made) -> str:
    page = report(root, campaign(root, made), ReportOptions()).store.read(PAGE).decode()
    return page.replace("\u202f", " ")


def lead(root: Store, made: Made) -> str:
    """The first sentences of the page."""
    (text,) = re.findall('<p class="lead">(.*?)</p>', page_of(root, made))
    return str(text)


def notice(root: Store, made: Made) -> str:
    """What stands in the box above all sections."""
    found = re.search('<section class="notice".*?</section>', page_of(root, made), re.DOTALL)
    return found[0] if found else ""


def test_result_that_clearly_wins_has_no_verdict(root: Store) -> None:
    text = lead(root, Made(gained=0.021))
    assert "The student is right on 90.0 % of 100 images" in text
    assert "noise" not in text
    assert "does not beat" not in text


VERDICTS = {
    -0.05: "The student does not beat the baseline: it is worse by 5.0 points "
    "(± 1.0 standard error), which is more than noise.",
    -0.015: "The student does not beat the baseline: it is worse by 1.5 points "
    "(± 1.0 standard error), which is within noise.",
    0.0: "The student does not beat the baseline: both are right equally often.",
    0.015: "The student is better than the baseline by 1.5 points (± 1.0 standard error), "
    "which is within noise.",
}


@pytest.mark.parametrize("gained", VERDICTS)
def test_result_that_does_not_clearly_win_is_said_first(root: Store, gained: float) -> None:
    assert lead(root, Made(gained=gained)).startswith(VERDICTS[gained])


LOST = Made(gained=-0.05)
REASONS: dict[str, tuple[Made, str]] = {
    "teacher": (
        dataclasses.replace(LOST, teacher_top1=0.8, precise=0.3),
        "The teacher is right on 80.0 %, no more often than the baseline (80.0 %), so it cannot "
        "teach anything new: start it from weights that know more (start.weights)",
    ),
    "precision": (
        dataclasses.replace(LOST, precise=0.49, suspect=2),
        "Only 49.0 % of the chosen images are what they were chosen for: lower topk.k",
    ),
    "suspect": (
        dataclasses.replace(LOST, suspect=2, lessons=20),
        "The class emu may have filled with images of other things",
    ),
    "labels": (
        dataclasses.replace(LOST, lessons=20),
        "There are 4 labelled images of a class on average",
    ),
    "nothing": (
        dataclasses.replace(LOST, lessons=100),
        "Perhaps there is little left to gain here. Try another topk.k",
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_likeliest_reason_is_said_with_what_to_try(root: Store, reason: str) -> None:
    made, sentence = REASONS[reason]
    text = lead(root, made)
    assert sentence in text
    others = [other for name, (_, other) in REASONS.items() if name != reason]
    assert not [other for other in others if other in text], "one reason is enough"


def test_copies_among_the_test_images_are_on_top_of_the_report(root: Store) -> None:
    text = notice(root, Made(leaks=3))
    assert "3 of 50 test images are copies of labelled ones" in text
    assert "1 of them byte by byte" in text
    assert f"protege show {root.uri}/leakage/" in text
    assert not notice(root, Made(kept=(K,) * 5))
