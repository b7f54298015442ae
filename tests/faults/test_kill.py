"""kill -9 in every stage, run again, and the tables are those of an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.engine.execute import execute
from infra.store import open_store
from tasks.campaigns import campaigns
from tests.builders.campaign import tables_of, tiny
from tests.builders.processes import launched_by, with_variable
from tests.builders.waiting import EVENT_SECONDS, wait_for
from tests.faults.driver import run_campaign

MARK = "PROTEGE_TEST_RUN"
STAGES = [
    "shard",
    "score",
    "signature",
    "leakage",
    "topk",
    "gather",
    "predictions",
    "evaluate",
    "report",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The root of a campaign that nothing happened to."""
    root = tmp_path_factory.mktemp("undisturbed")
    run_campaign(str(root), pictures)
    return root


def without(undisturbed: Path, stage: str, root: Path) -> Path:
    """A copy in which this stage and all after it have not run, but for the trainings.

    What an interrupted training does is tested in test_train.py; here it would only take time.
    """
    shutil.copytree(undisturbed, root)
    for name in STAGES[STAGES.index(stage.removeprefix("leases/")) :]:
        shutil.rmtree(root / name, ignore_errors=True)
    return root


def drive(root: Path, pictures: Path, *where: str) -> int:
    command = [sys.executable, "-m", "tests.faults.driver", str(root), str(pictures), *where]
    return subprocess.run(command, check=False, timeout=EVENT_SECONDS).returncode


@pytest.mark.parametrize(
    ("stage", "write"),
    [
        ("shard", 1),  # the pins
        ("shard", 2),  # the first part
        ("shard", 5),
        ("score", 1),
        ("score", 3),
        ("score", 5),  # the manifest
        ("signature", 1),
        ("signature", 2),
        ("leakage", 1),
        ("topk", 1),
        ("topk", 2),
        ("topk", 3),
        ("gather", 1),  # a spill
        ("gather", 2),
        ("gather", 3),
        ("predictions", 1),
        ("predictions", 4),  # the manifest of the second model
        ("evaluate", 1),
        ("evaluate", 2),
        ("report", 1),
        ("report", 2),
        ("leases/score", 1),  # taken
        ("leases/score", 2),  # given back
    ],
)
def test_stage_that_was_killed_goes_on_to_the_same_tables(
    undisturbed: Path, pictures: Path, tmp_path: Path, stage: str, write: int
) -> None:
    root = without(undisturbed, stage, tmp_path / "root")
    assert drive(root, pictures, stage, str(write)) == -signal.SIGKILL
    run_campaign(str(root), pictures)
    assert tables_of(str(root)) == tables_of(str(undisturbed))


def test_whole_run_that_was_killed_in_training_goes_on_to_the_same_tables(
    tmp_path: Path, pictures: Path, undisturbed: Path
) -> None:
    """The real command with Prefect, Dask and torchrun dies; the same command finishes."""
    options, root = tiny(pictures), str(tmp_path / "root")
    script = (
        "import sys; from pathlib import Path; from flows.engine.execute import execute;"
        "from tests.builders.campaign import tiny;"
        "execute('billion-scale', tiny(Path(sys.argv[1])), sys.argv[2])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(pictures), root], env={**os.environ, MARK: root}
    )
    try:
        wait_for(lambda: open_store(root).sizes("train"), "the first training is at work")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # Prefect's temporary server, alone of all, outlives a SIGKILL of the run.
        wait_for(lambda: len(with_variable(MARK, root)) <= 1, "its processes end with it")
        for left in with_variable(MARK, root):
            os.kill(left, signal.SIGTERM)
    assert not campaigns(open_store(root))[0].finished
    execute("billion-scale", options, root)
    here, expected = tables_of(root), tables_of(str(undisturbed))
    shared = {
        name
        for name in expected
        if name.split("/")[0] in {"shard", "score", "signature", "topk", "gather"}
    }
    assert {name: here[name] for name in shared} == {name: expected[name] for name in shared}
    weights = {name for name in expected if name.endswith("weights.safetensors")}
    assert {name: here[name] for name in weights} == {name: expected[name] for name in weights}
    wait_for(lambda: not launched_by(process.pid), "the trainings are gone")
