"""docs/operate.md: every command of the page is run, in the order in which it stands there."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.waiting import EVENT_SECONDS, wait_for
from tests.operate.served import Served

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "operate.md"
EXPORTS = (
    "export PREFECT_API_URL=http://127.0.0.1:4200/api",
    'export PREFECT_API_AUTH_STRING="$(cat ~/.protege/auth)"',
)
COMMAND = re.compile(r"^    ((?:protege|prefect|export) .+)$", re.MULTILINE)


def commands() -> list[str]:
    return COMMAND.findall(PAGE.read_text())


def test_page_has_commands_and_its_pictures_are_there() -> None:
    assert len(commands()) >= 15
    for picture in re.findall(r"\]\((operate/[^)]+)\)", PAGE.read_text()):
        assert (PAGE.parent / picture).is_file(), picture


def test_page_names_only_settings_that_there_are() -> None:
    from infra.settings import variables

    assert set(re.findall(r"PROTEGE_[A-Z_]+", PAGE.read_text())) <= set(variables())


def runs(served: Served) -> list[dict[str, Any]]:
    """The runs of the deployments that the page starts."""
    return served.runs_of("retrain/by-hand") + served.runs_of("billion-scale/default")


def meant(command: str, served: Served, known: dict[str, str]) -> list[str]:
    """The words of a command, with what the page names in the place of its examples."""
    for example, real in known.items():
        command = command.replace(example, real)
    program, *words = shlex.split(command)
    module = {"protege": "flows.cli", "prefect": "prefect"}[program]
    return [sys.executable, "-m", module, *words]


def test_every_command_of_the_page_works(served: Served, data: Path, campaign: Campaign) -> None:
    options = tiny(data)
    known = {
        "mine.yaml": served.configuration(options),
        "billion-scale-1f3a0b2c-000": campaign.id,
        "protege-output/shard/3f2a90cc11d0ab42": str(campaign.outputs["pile"].uri),
        "s3://bucket/pile": options.pile.source,
    }
    environment = {
        **served.for_prefect,
        "PYTHONPATH": str(REPOSITORY),
    }
    before = {run["id"] for run in runs(served)}
    for command in commands():
        if command.startswith("export"):
            assert command in EXPORTS
            continue
        words = meant(command, served, known)
        if "worker" in words:
            start_and_stop(words, environment, served)
        else:
            # Where prefect.yaml is, for Prefect's own commands.
            place = REPOSITORY if words[2] == "prefect" else served.folder
            done = subprocess.run(
                words, env=environment, cwd=place, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if "--deployment" in words:
                known["RUN"] = done.stdout.strip().rsplit("/", 1)[1]
                served.await_state(known["RUN"], "Completed")
        if "retrain/by-hand" in words:
            newest = served.runs_of("retrain/by-hand")[0]["id"]
            served.await_state(newest, "Completed")
        if command == "protege down":
            served.protege("up")
    schedules = served.deployment("retrain/scheduled")["schedules"]
    cron = {one["schedule"]["cron"]: one["id"] for one in schedules}
    assert "0 5 * * 1" in cron
    place = served.deployment("retrain/scheduled")["id"]
    served.ask(f"deployments/{place}/schedules/{cron['0 5 * * 1']}", {}, method="DELETE")
    for run in runs(served):
        if run["id"] not in before:
            served.await_state(run["id"], "Completed")
    served.protege("up")


def start_and_stop(words: list[str], environment: dict[str, str], served: Served) -> None:
    """A worker that people start themselves."""
    log = served.folder / "worker.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            words, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(lambda: "started!" in log.read_text(), "the worker has started")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(EVENT_SECONDS / 10)
        except subprocess.TimeoutExpired:
            # Prefect's worker may lose an interrupt that comes right after its start.
            process.kill()
            process.wait()
