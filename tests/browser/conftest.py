"""A real browser to look at the server with."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.builders.waiting import EVENT_SECONDS
from tests.operate.served import Served

# A foreign name with the address of this machine.
REBOUND = "rebound.example"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Tests ask nobody but their own server, whatever a page may want.
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Drawn by the processor, the graph on a run's page keeps a core busy; only pictures want it.
    *([] if os.environ.get("PROTEGE_TEST_SCREENSHOTS") else ["--disable-3d-apis"]),
]
INSIDE = ("http://127.0.0.1:", "data:", "blob:")
# Without a graphics card, a page that shows a run at work keeps half a core busy with drawing.
FEW_FRAMES = "window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 200)"
SIZE: ViewportSize = {"width": 1280, "height": 900}


def program() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "Debian's package chromium is missing: make test-operate has it"
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium, without a window."""
    expect.set_options(timeout=1000 * EVENT_SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def user(chromium: Browser, served: Served) -> Iterator[BrowserContext]:
    """A user with a cache, so that a page is loaded once and not by each test.

    Only the first page is opened by the link that `protege up` has printed.
    """
    context = chromium.new_context(viewport=SIZE)
    context.set_default_timeout(1000 * EVENT_SECONDS)
    context.add_init_script(FEW_FRAMES)
    page = context.new_page()
    page.goto(served.link)
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(user: BrowserContext) -> Iterator[Page]:
    """An empty page; it may ask nobody outside."""
    page = user.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert asked
    assert [url for url in asked if not url.startswith(INSIDE)] == []
