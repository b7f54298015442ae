"""Pages: those of the UI send requests to their own server only, and take a password along."""

from pathlib import Path

import pytest

from flows.operate.pages import prepare_pages

UI = "http://127.0.0.1:4200"
PAGE = "<!DOCTYPE html>\n<html><head><script src='x.js'></script></head></html>"


def test_policy_stands_before_every_script_and_once(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "index.html").write_text(PAGE)
    prepare_pages(tmp_path, UI)
    first = [path.read_text() for path in sorted(tmp_path.glob("*/index.html"))]
    prepare_pages(tmp_path, UI)
    assert [path.read_text() for path in sorted(tmp_path.glob("*/index.html"))] == first
    for text in first:
        assert text.count("Content-Security-Policy") == 1
        assert text.index("connect-src 'self' ws: wss: " + UI) < text.index("<script")
        added = text[text.index("<meta") : text.index("<script src")]
        assert text.replace(added, "") == PAGE
    assert len(list(tmp_path.glob("*/*"))) == 2


def test_server_behind_another_address_stays_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "index.html").write_text(PAGE)
    monkeypatch.setenv("PREFECT_UI_API_URL", "https://prefect.example/api")
    prepare_pages(tmp_path, UI)
    assert f"{UI} https://prefect.example/api" in (tmp_path / "v2" / "index.html").read_text()


def test_server_that_has_not_copied_its_pages_is_no_error(tmp_path: Path) -> None:
    prepare_pages(tmp_path / "ui", UI)
