"""The report in a real browser: on a phone, and with a picture shown large."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from infra.store import open_store
from tasks.report import PAGE, report
from tests.builders.stories import K, Made, campaign

PHONE: ViewportSize = {"width": 390, "height": 844}
LONG_NAMES = ("household goods", "musical instruments", "emu", "fox", "a rather long name")
pytestmark = pytest.mark.short


@pytest.fixture
def phone(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """The report of a small campaign, on a narrow screen."""
    root = open_store(str(tmp_path))
    written = report(root, campaign(root, Made(LONG_NAMES, kept=(K, 3, K, K, K))))
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto(f"{Path(written.uri, PAGE).as_uri()}")
    yield page
    context.close()


def test_a_wide_table_scrolls_in_its_own_box(phone: Page) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    boxes = phone.locator(".scroll").all()
    wide = [box for box in boxes if box.evaluate("box => box.scrollWidth > box.clientWidth")]
    assert wide
    for box in wide:
        box.evaluate("box => box.scrollLeft = box.scrollWidth")
        for pinned in (*box.locator("caption > span").all(), *box.locator("tbody th").all()[:1]):
            place = pinned.bounding_box()
            if place is not None:  # in a list of options that is not unfolded
                assert place["x"] >= 0
                assert place["x"] + place["width"] <= PHONE["width"]


def test_no_row_is_tall_and_empty(phone: Page) -> None:
    heights = [row.bounding_box() for row in phone.locator(".lineage tbody tr").all()]
    assert max(box["height"] for box in heights if box is not None) < 60


def test_a_click_shows_a_picture_large_and_another_one_small(phone: Page) -> None:
    picture = phone.locator(".picture").first
    image, name = picture.locator("img"), picture.locator("code")
    small = image.bounding_box()
    expect(name).to_be_hidden()
    picture.locator("summary").click()
    expect(name).to_have_text("pile/0.png")
    large = image.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 5 * small["width"]
    picture.locator("summary").click(position={"x": 5, "y": 5})
    expect(name).to_be_hidden()
