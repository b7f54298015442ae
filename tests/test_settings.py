"""Settings: sections by environment variables, and a mistake that is answered with the remedy."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import Settings, variables

README = Path(__file__).parents[1] / "README.md"


def test_sections_are_set_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEGE_DASK__WORKERS", "3")
    monkeypatch.setenv("PROTEGE_SERVER__PORT", "4300")
    settings = Settings()
    assert (settings.dask.workers, settings.server.port) == (3, 4300)
    assert settings.server.reports_port == 4201  # the rest of the section keeps its defaults


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("PROTEGE_DASK__WORKER", "did you mean PROTEGE_DASK__WORKERS?"),
        ("PROTEGE_PORT", "did you mean PROTEGE_SERVER__PORT?"),
        ("PROTEGE_LEASE_SECONDS", "did you mean PROTEGE_LEASE__SECONDS?"),
        ("PROTEGE_TRAIN_PROCESSES", "did you mean PROTEGE_TRAINING__PROCESSES?"),
        ("PROTEGE_XYZ", "is no setting; there are: PROTEGE_ROOT"),
    ],
)
def test_variable_that_is_no_setting_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValidationError, match=remedy.replace("?", r"\?")):
        Settings()


def test_options_of_recipes_and_what_is_internal_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PROTEGE_OPTION__TOPK__K", "PROTEGE_INTERNAL_X", "PROTEGE_TEST_PATIENCE"):
        monkeypatch.setenv(name, "1")
    assert Settings().root


def test_every_setting_has_a_variable_and_the_readme_names_no_other() -> None:
    assert "PROTEGE_ROOT" in variables()
    assert "PROTEGE_LEASE__SECONDS" in variables()
    named = set(re.findall(r"PROTEGE_[A-Z_]+", README.read_text()))
    assert {name for name in named if not name.startswith("PROTEGE_OPTION__")} <= {*variables()}
