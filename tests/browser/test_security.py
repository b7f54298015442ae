"""Security: who has the link uses the UI; a foreign page, name or account gets nothing."""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import REBOUND
from tests.builders.waiting import EVENT_SECONDS
from tests.operate.served import Served

pytestmark = pytest.mark.short

# What a script of a page can try, whether it may read the answer or not.
SCRIPT = """async ([address, body, mode]) => {
    const request = {method: body ? "POST" : "GET", body: body || undefined, mode, headers: {}};
    if (mode === "cors") {
        request.headers["Content-Type"] = "application/json";
    }
    try {
        const answer = await fetch(address, request);
        return answer.type + " " + answer.status + " " + (await answer.text());
    } catch (error) {
        return "refused";
    }
}"""


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title>")

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def foreign(chromium: Browser) -> Iterator[Page]:
    """A page of another origin, in a browser in which nobody has opened the link."""
    with _listening() as port, chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        yield page


@pytest.fixture
def foreign_beside(user: BrowserContext) -> Iterator[Page]:
    """The same in the browser of the user, who has."""
    with _listening() as port:
        page = user.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        yield page
        page.close()


@contextmanager
def _listening() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start(served: Served) -> tuple[str, str]:
    """The request that starts a run of a command."""
    place = served.deployment("report/single")["id"]
    body = {"state": {"type": "SCHEDULED"}, "job_variables": {"command": "touch /tmp/x"}}
    return f"{served.ui}/api/deployments/{place}/create_flow_run", json.dumps(body)


# --------------------------------------------------------------------------------------- the user


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_link_opens_both_versions_of_the_ui(
    served: Served, chromium: Browser, version: str
) -> None:
    folder = "/" if version == "v1" else "/v2/"
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(served.link)
        expect(page).not_to_have_url(re.compile("#"))
        page.goto(f"{served.ui}{folder}deployments")
        expect(page.get_by_text("billion-scale").first).to_be_visible()


@pytest.mark.parametrize("place", ["/", "/v2/deployments"])
def test_without_the_link_a_browser_is_shown_nothing(
    served: Served, chromium: Browser, place: str
) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{served.ui}{place}")
        expect(page.get_by_role("button", name="Login").first).to_be_visible()
        assert page.get_by_text("billion-scale").count() == 0


def test_link_is_in_what_up_and_status_print(served: Served) -> None:
    for command in ("up", "status"):
        assert served.link in served.protege(command)


# ----------------------------------------------------------------------------- foreign pages


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
@pytest.mark.parametrize("fixture", ["foreign", "foreign_beside"])
def test_foreign_page_starts_nothing_and_reads_nothing(
    request: pytest.FixtureRequest, served: Served, fixture: str, mode: str
) -> None:
    page: Page = request.getfixturevalue(fixture)
    before = len(served.runs_of("report/single"))
    read = page.evaluate(SCRIPT, [f"{served.ui}/api/admin/version", "", mode])
    assert read in {"refused", "opaque 0 "}
    assert page.evaluate(SCRIPT, [*start(served), mode]) in {"refused", "opaque 0 "}
    assert page.evaluate("() => localStorage.length + document.cookie.length") == 0
    assert len(served.runs_of("report/single")) == before


def test_foreign_name_of_this_machine_is_answered_by_neither_server(
    served: Served, chromium: Browser
) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        for port in (served.port, served.reports_port):
            answer = page.goto(f"http://{REBOUND}:{port}/")
            assert answer is not None
            assert answer.status in {400, 421}
            assert "billion-scale" not in page.content()


# ------------------------------------------------------------------------------------ the API


def asked(served: Served, path: str, body: str = "", **headers: str) -> int:
    """The status of the answer."""
    given = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{served.ui}{path}", body.encode() or None, given)
    try:
        with urllib.request.urlopen(request, timeout=EVENT_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_api_wants_the_password_and_for_a_change_a_token(served: Served) -> None:
    """Other accounts of the machine reach the port with whatever headers they like."""
    good = "Basic " + base64.b64encode(served.home.auth().encode()).decode()
    bad = "Basic " + base64.b64encode(b"protege:guessed").decode()
    version, (address, body) = "/api/admin/version", start(served)
    place = address.removeprefix(served.ui)
    for origin in ({}, {"Origin": "http://foreign.example"}, {"Origin": served.ui}):
        assert asked(served, version, **origin) == 401
        assert asked(served, version, Authorization=bad, **origin) == 401
        assert asked(served, version, Authorization=good, **origin) == 200
        assert asked(served, place, body, **origin) in {401, 403}
        assert asked(served, place, body, Authorization=good, **origin) == 403


@pytest.mark.parametrize("host", [REBOUND, f"{REBOUND}:4200", "", "127.0.0.1.evil.example"])
def test_foreign_host_is_refused_whoever_asks(served: Served, host: str) -> None:
    good = "Basic " + base64.b64encode(served.home.auth().encode()).decode()
    assert asked(served, "/api/admin/version", Authorization=good, Host=host) == 400


def test_what_anybody_is_given_has_no_password(served: Served) -> None:
    user, password = served.home.auth().split(":")
    secret = served.link.partition("=")[2]
    assert user == "protege"
    assert len(password) >= 32
    for path in ("/", "/v2/", "/ui-settings", "/api/health", "/docs"):
        with urllib.request.urlopen(f"{served.ui}{path}", timeout=EVENT_SECONDS) as answer:
            text = answer.read().decode()
        assert password not in text
        assert secret not in text


def test_files_with_the_password_are_for_their_owner(served: Served) -> None:
    for name in ("auth", "up.json"):
        assert (served.home.folder / name).stat().st_mode & 0o077 == 0


def test_pool_takes_no_command(served: Served) -> None:
    template = json.dumps(served.ask("work_pools/protege")["base_job_template"])
    assert '"command"' not in template
