"""Overhead: what a campaign costs beside its work. `make bench-overhead`

The networks are replaced by the mean colour and a linear layer, with one step of training, on 144
tiny pictures. `total_seconds` is the whole command in a process of its own, on a new Prefect
database and a new root. `floor_seconds` is, measured in the same run, the bare starts of what it
needs: Prefect's in-process API with as many empty tasks, a local Dask cluster, and as many empty
torchrun launches. Both are medians over the repetitions. Prints one JSON line.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.launch import launch
from tests.builders.pictures import write_sources

if TYPE_CHECKING:
    from flows.billion_scale.options import BillionScale

REPETITIONS = 3
TRAININGS = 5
TASKS = 13

CAMPAIGN = """
import sys
from pathlib import Path
from flows.engine.execute import execute
from tests.bench.overhead import one_step
if __name__ == "__main__":
    execute("billion-scale", one_step(Path(sys.argv[1])), sys.argv[2])
"""

BARE_PREFECT_AND_DASK = f"""
import os
from flows.engine.environment import COMMAND_LINE
os.environ.update(COMMAND_LINE)
from prefect import flow, task
from infra.executors import Cluster
from infra.settings import Settings

@task
def nothing(): pass

@flow
def empty():
    with Cluster() as cluster:
        list(cluster.run(abs, [1]))
        for _ in range({TASKS}):
            nothing()

if __name__ == "__main__":
    empty()
"""


def one_step(pictures: Path) -> "BillionScale":
    """Options of the smallest campaign: every training is one step."""
    from tasks.options import Length
    from tests.builders.campaign import tiny

    step = {"length": Length(amount=1, unit="steps")}
    # Different seeds, so that no training is the same as another and all five are launched.
    return tiny(
        pictures,
        teacher={**step, "seed": 1},
        student={**step, "seed": 2},
        fine_tune={**step, "seed": 3},
    )


def seconds_of(script: str, *arguments: str) -> float:
    """Wall time of a Python script in a process of its own, on a new Prefect database."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "script.py"
        path.write_text(script)
        environment = {**os.environ, "PREFECT_HOME": home, "PYTHONPATH": str(Path.cwd())}
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, str(path), *arguments],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - started


def bare_launches() -> float:
    """Seconds of as many torchrun launches as a campaign has trainings, with nothing in them."""
    started = time.perf_counter()
    for _ in range(TRAININGS):
        with tempfile.TemporaryDirectory() as folder:
            list(launch("tests.bench.nothing", Path(folder) / "job", 1, 1))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    totals, floors = [], []
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        write_sources(pictures, seed=0, labelled=4, pile=40, test=4)
        for number in range(REPETITIONS):
            totals.append(seconds_of(CAMPAIGN, str(pictures), f"{folder}/root-{number}"))
            floors.append(seconds_of(BARE_PREFECT_AND_DASK) + bare_launches())
    total, floor = statistics.median(totals), statistics.median(floors)
    line = {
        "total_seconds": round(total, 2),
        "floor_seconds": round(floor, 2),
        "overhead_seconds": round(total - floor, 2),
        "totals": [round(seconds, 2) for seconds in totals],
        "floors": [round(seconds, 2) for seconds in floors],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
