"""Lifecycle: what `protege up` says of its settings, without a server."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.operate.lifecycle import _database_label, _database_url
from infra.errors import ProtegeError

SECRET = "Zq9x-Zq9x"


@pytest.mark.parametrize(
    "address",
    [
        "mysql://me:{}@host/runs",
        "postgresql+psycopg2://me:{}@host/runs",
        "me:{}@host/runs",
        "{}",
        "sqlite:///{}",
        "://{}@host",
        "{}://me@host/runs",
        " postgresql://me:{}@host/runs",
        "postgresql://me:/{}@host/runs",
        "postgresql://me:1/{}@host/runs",
        "postgresql://host:{}/runs",
    ],
)
def test_address_that_is_refused_is_said_without_its_password(address: str) -> None:
    with pytest.raises(ProtegeError, match="write postgresql://") as refused:
        _database_url(address.format(SECRET))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
@pytest.mark.parametrize(
    "rest",
    ["me:{}@host:5433/runs", "me:{}@host/runs", "me:a@{}@host/runs", "/runs?password={}"],
)
def test_label_of_a_database_has_no_password(scheme: str, rest: str) -> None:
    url = _database_url(f"{scheme}://{rest.format(SECRET)}")
    assert url.startswith("postgresql+asyncpg://")
    assert SECRET in url
    label = _database_label(url)
    assert SECRET not in label
    assert "/runs" in label


def test_status_of_what_is_down_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEGE_SERVER__HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["status"])
    assert (done.stdout, done.exit_code) == ("down\n", 3)
