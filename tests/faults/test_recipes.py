"""kill -9 in each stage of each recipe, run again: the same tables and the same weights."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.store import open_store
from tasks.campaigns import campaigns
from tests.builders.campaign import tables_of
from tests.builders.waiting import EVENT_SECONDS
from tests.faults.recipe_driver import run_recipe

# Stages and the number of a write in them, in the order in which they come to write; each run goes
# on from where the one before died.
BEFORE = (("shard", 2), ("signature", 1), ("leakage", 1), ("gather", 2), ("train", 2))
AFTER = (("predictions", 1), ("evaluate", 1), ("report", 1))
KILLS = {
    "semi-weakly": (
        *BEFORE[:4],
        ("tags", 2),
        ("gather", 3),
        ("train", 2),
        ("score", 2),
        ("topk", 1),
        ("train", 6),
        *AFTER,
    ),
    "simclr-v2": (*BEFORE, *AFTER),
    "noisy-student": (*BEFORE, ("score", 3), ("topk", 2), ("gather", 2), *AFTER),
}


def drive(name: str, root: Path, pictures: Path, *where: str) -> int:
    command = [sys.executable, "-m", "tests.faults.recipe_driver", name, str(root), str(pictures)]
    return subprocess.run([*command, *where], check=False, timeout=EVENT_SECONDS).returncode


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(KILLS))
def test_recipe_that_is_killed_in_every_stage_ends_with_the_same_tables_and_weights(
    name: str, tmp_path: Path, pictures: Path
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run_recipe(name, str(undisturbed), pictures)
    for stage, write in KILLS[name]:
        status = drive(name, killed, pictures, stage, str(write))
        assert status == -signal.SIGKILL, (stage, status)
    run_recipe(name, str(killed), pictures)
    (campaign,) = campaigns(open_store(str(killed)))
    assert campaign.finished
    expected = tables_of(str(undisturbed))
    assert any(table.endswith("weights.safetensors") for table in expected)
    assert tables_of(str(killed)) == expected
