"""Operate: how long people wait for the server. `make bench-operate`

On a new SQLite database, medians over three: `up_seconds`, `protege up` until it returns, with
everything registered; `submit_to_first_stage_seconds`, from Submit to the first stage at work;
`idle_retrain_seconds`, from its scheduled start to the end of a retraining that finds nothing new;
`cancel_seconds`, until a campaign in training is Cancelled and its last process gone.
`zombie_seconds`, once: from kill -9 of a flow and its worker until the run is Crashed.
`runs_page_seconds`, on PostgreSQL with the history of 1,000 campaigns: a browser shows the runs;
`runs_answer_seconds`, the slowest answer of the server to one of these visits.

Beside them, from the same run: `bare_server_seconds`, Prefect's own server alone until it answers.
Prints one JSON line.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from flows.billion_scale.options import BillionScale
from tests.browser.conftest import SIZE, SWITCHES, program
from tests.builders.campaign import tiny
from tests.builders.pictures import write_sources
from tests.builders.waiting import wait_for
from tests.operate.campaigns import slow
from tests.operate.history import multiply
from tests.operate.postgres import postgres
from tests.operate.served import Served, free_port

REPETITIONS = 3
CAMPAIGNS = 1_000


@contextmanager
def server(folder: Path, database: str = "") -> Iterator[tuple[Served, float]]:
    """A new server, and the seconds that `protege up` took."""
    folder.mkdir()
    served = Served(folder, free_port(), free_port(), database)
    started = time.perf_counter()
    served.protege("up")
    try:
        yield served, time.perf_counter() - started
    finally:
        served.protege("down", check=False)


def bare_server(folder: Path) -> float:
    """Seconds until Prefect's own server answers, on a new database."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), "the bare server answers")
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def submit_to_first_stage(served: Served, options: BillionScale) -> float:
    """From Submit until the first stage says what it reads."""
    sections = served.sections(options)
    started = time.perf_counter()
    run_id = served.start("billion-scale/default", sections)
    at_work = lambda: any(line.startswith("shard: reads") for line in served.log(run_id))  # noqa: E731
    wait_for(at_work, "the first stage is at work", every_seconds=0.1)
    seconds = time.perf_counter() - started
    served.await_state(run_id, "Completed")
    return seconds


def idle_retrain(served: Served) -> float:
    """From its scheduled start to its end; nothing is new."""
    started = time.perf_counter()
    run_id = served.start("retrain/scheduled", {})
    served.await_state(run_id, "Completed")
    return time.perf_counter() - started


def at_work(served: Served, options: BillionScale) -> str:
    """A campaign whose teacher is in training."""
    run_id = served.submit(options)
    wait_for(lambda: served.ranks(run_id), "a training is at work")
    return run_id


def cancel(served: Served, options: BillionScale) -> float:
    run_id = at_work(served, options)
    started = time.perf_counter()
    served.ask(f"flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    served.await_state(run_id, "Cancelled")
    wait_for(lambda: not served.flow_processes(run_id), "its processes are gone", every_seconds=0.1)
    return time.perf_counter() - started


def zombie(served: Served, options: BillionScale) -> float:
    run_id = at_work(served, options)
    worker = served.home.processes()["worker"].find()
    flow = served.flow_process(run_id)
    started = time.perf_counter()
    for process in (worker, flow):
        if process is not None:
            process.kill()
    served.await_state(run_id, "Crashed")
    return time.perf_counter() - started


def runs_page(served: Served, address: str, options: BillionScale) -> dict[str, float]:
    """Until a browser shows the list of runs, and of it the server's slowest answer.

    Medians over five visits.
    """
    served.await_state(served.submit(options), "Completed")
    multiply(address, CAMPAIGNS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=SWITCHES)
        page = browser.new_page(viewport=SIZE)
        page.goto(served.link)
        answers: list[float] = []
        page.on("requestfinished", lambda one: answers.append(one.timing["responseEnd"] / 1000))

        def visit() -> tuple[float, float]:
            answers.clear()
            started = time.perf_counter()
            page.goto(f"{served.ui}/v2/runs")
            page.get_by_text("billion-scale").first.wait_for()
            seconds = time.perf_counter() - started
            page.wait_for_load_state("networkidle")  # some answers come after the list
            return seconds, max(answers)

        visit()  # the browser's cache is filled, as a user's is
        shown, slowest = zip(*(visit() for _ in range(5)), strict=True)
        return {
            "runs_page_seconds": statistics.median(shown),
            "runs_answer_seconds": statistics.median(slowest),
        }


def median_of(measure: Callable[[int], float]) -> float:
    return statistics.median(measure(number) for number in range(REPETITIONS))


def measure(folder: Path) -> dict[str, float]:
    """All figures."""
    pictures = folder / "pictures"
    write_sources(pictures, seed=0, labelled=20, pile=20, test=5)

    def up(number: int) -> float:
        with server(folder / f"up-{number}") as (_, seconds):
            return seconds

    found = {
        "up_seconds": median_of(up),
        "bare_server_seconds": median_of(lambda number: bare_server(folder / f"bare-{number}")),
    }
    with server(folder / "sqlite") as (served, _):
        found["submit_to_first_stage_seconds"] = median_of(
            lambda number: submit_to_first_stage(served, tiny(pictures, topk={"k": 4 + number}))
        )
        served.await_state(served.start("retrain/by-hand", {}), "Completed")
        found["idle_retrain_seconds"] = median_of(lambda _: idle_retrain(served))
        found["cancel_seconds"] = median_of(
            lambda number: cancel(served, slow(pictures, 600, teacher={"seed": number + 1}))
        )
        found["zombie_seconds"] = zombie(served, slow(pictures, 600, teacher={"seed": 9}))
    with postgres() as address, server(folder / "postgres", address) as (served, _):
        found |= runs_page(served, address, tiny(pictures))
    return {name: round(seconds, 2) for name, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        print(json.dumps({**measure(Path(folder)), "campaigns": CAMPAIGNS}))


if __name__ == "__main__":
    main()
