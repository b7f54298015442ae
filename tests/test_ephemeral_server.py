"""A flow that is called without a server waits for its own longer than Prefect does by default."""

import os
import subprocess
import sys

import pytest

from tests.builders.waiting import EVENT_SECONDS

NAME = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
FLOWS, PREFECT = "import flows.engine.flow", "import prefect"
TELL = f"from prefect.settings import {NAME}; print({NAME}.value())"


def limit(*lines: str, **environment: str) -> str:
    """How long a flow would wait after these lines of Python."""
    inherited = {name: value for name, value in os.environ.items() if name != NAME}
    done = subprocess.run(
        [sys.executable, "-c", "; ".join([*lines, TELL])],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=EVENT_SECONDS,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("lines", [(FLOWS,), (PREFECT, FLOWS)])
def test_limit_holds_in_whatever_order_things_are_imported(lines: tuple[str, ...]) -> None:
    assert limit(*lines) == "600"


def test_limit_of_the_user_wins() -> None:
    assert limit(FLOWS, **{NAME: "30"}) == "30"
