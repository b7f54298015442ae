"""Retraining: skipped when nothing is new; new images, an event, a champion and a way back.

The pile grows here, so these tests come after those that want it as it was, and the guide's
commands among them have made the first champion.
"""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tasks.campaigns import Campaign
from tests.builders.pictures import write_folder
from tests.builders.waiting import wait_for
from tests.operate.served import Served


@pytest.fixture(scope="module")
def first(served: Served, campaign: Campaign) -> str:
    """The first retraining: it holds labelled images out, and its student is the champion.

    That of the guide's commands, when these were tested before.
    """
    known = served.runs_of("retrain/by-hand")
    if known:
        return str(known[-1]["id"])
    run_id = served.start("retrain/by-hand", {"campaign": campaign.id})
    served.await_state(run_id, "Completed")
    return run_id


def test_first_retraining_makes_the_champion(served: Served, first: str) -> None:
    served.await_line(first, "is the first champion")
    printed = served.protege("champion")
    assert "is the first champion" in printed
    assert "weights.safetensors" in printed


def test_nothing_new_is_skipped_in_seconds(served: Served, first: str) -> None:
    started = time.monotonic()
    run_id = served.start("retrain/scheduled", {})
    served.await_state(run_id, "Completed")
    print(f"idle retraining: {time.monotonic() - started:.1f} s")
    assert "Skipped: nothing is new" in served.run(run_id)["state"]["message"]


def test_new_images_are_scored_alone_and_the_student_must_beat_the_champion(
    served: Served, data: Path, first: str
) -> None:
    """Started by the event that says that images have arrived."""
    earlier = {one.id: one for one in served.campaigns()}
    champion = served.protege("champion").splitlines()[-2]
    scored = [Path(str(one.outputs["score"].uri)) for one in earlier.values() if one.finished]
    parts = {part: part.stat().st_mtime_ns for one in scored for part in one.glob("part-*")}
    rng = np.random.default_rng(4)
    write_folder(data / "pile", rng, per_class=10, labelled=False, prefix="new")
    before = len(served.runs_of("retrain/arrived"))
    assert "it is read by" in served.protege("arrived", str(data / "pile"))
    runs = wait_for(
        lambda: found if len(found := served.runs_of("retrain/arrived")) > before else [],
        "the event starts a run",
    )
    served.await_state(runs[0]["id"], "Completed")
    made = [one for one in served.campaigns() if one.id not in earlier and one.finished]
    assert len(made) == 1
    assert made[0].outputs["pile"].rows_in == 90
    assert made[0].outputs["score"].rows_in == 90
    assert made[0].outputs["teacher"].reused
    assert {part: part.stat().st_mtime_ns for part in parts} == parts
    decision = served.await_line(runs[0]["id"], "of the promotion set")
    promoted = "fails by" not in decision
    assert (served.protege("champion").splitlines()[-2] != champion) == promoted
    kind = "promoted" if promoted else "kept"
    wanted = {"filter": {"event": {"name": [f"protege.champion.{kind}"]}}}
    wait_for(lambda: served.ask("events/filter", wanted)["events"], "the event is there")


def test_events_during_a_retraining_are_followed_by_one_more_run(
    served: Served, data: Path, campaign: Campaign, first: str
) -> None:
    """A run at work holds the slot; what arrives meanwhile must not be lost, nor pile up."""
    name, before = "retrain/arrived", len(served.runs_of("retrain/arrived"))
    blocker = served.start(name, {"campaign": campaign.id, "teacher": "train"})
    served.await_state(blocker, "Running", "Completed")
    for _ in range(3):
        served.protege("arrived", str(data / "pile" / "day=1"))
    runs = wait_for(
        lambda: found if len(found := served.runs_of(name)) == before + 4 else [],
        "every event has its run",
    )
    ended = [served.await_state(run["id"], "Completed", "Cancelled") for run in runs]
    assert "Completed" in ended[:3]


def test_event_for_a_source_that_nobody_reads_does_nothing(
    served: Served, first: str, tmp_path: Path
) -> None:
    run_id = served.start("retrain/by-hand", {"source": str(tmp_path)})
    served.await_state(run_id, "Completed")
    assert "no finished campaign that reads" in served.run(run_id)["state"]["message"]


def test_champion_by_hand_and_back(served: Served, campaign: Campaign, first: str) -> None:
    champion = served.protege("champion").splitlines()[-2]
    assert campaign.id in served.protege("champion", "--promote", campaign.id).splitlines()[-2]
    assert served.protege("champion", "--rollback").splitlines()[-2] == champion
    assert "not in this root" in served.protege("champion", "--promote", "nothing", check=False)


def test_retraining_over_a_source_that_is_gone_fails_in_one_sentence(
    served: Served, data: Path, campaign: Campaign, first: str
) -> None:
    shutil.move(str(data / "pile"), str(data / "away"))
    try:
        run_id = served.start("retrain/by-hand", {"campaign": campaign.id})
        served.await_state(run_id, "Failed")
        assert "no images found" in served.run(run_id)["state"]["message"]
    finally:
        shutil.move(str(data / "away"), str(data / "pile"))
