"""Runs of a deployment: triggered, watched, repeated, refused, and two at once."""

import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.campaigns import Campaign
from tests.builders.campaign import tiny
from tests.builders.waiting import EVENT_SECONDS
from tests.operate.campaigns import made
from tests.operate.served import Served


def test_run_tells_what_each_stage_read_wrote_and_found(
    served: Served, finished: tuple[str, str]
) -> None:
    served.await_line(finished[0], "report: reads")
    log = served.log(finished[0])
    for stage in ("shard", "train", "score", "signature", "topk", "gather", "evaluate", "report"):
        lines = [line for line in log if line.startswith(f"{stage}: ") and "writes" in line]
        assert lines, stage
        assert all(served.root in line for line in lines)
    score = next(line for line in log if line.startswith("score: "))
    assert "reads images shard/" in score
    assert "teacher train/" in score


def test_run_has_one_task_for_each_stage_with_a_readable_name(
    served: Served, finished: tuple[str, str]
) -> None:
    wanted = {"flow_runs": {"id": {"any_": [finished[0]]}}}
    names = [one["name"] for one in served.ask("task_runs/filter", wanted)]
    expected = {"shard labelled", "shard pile", "shard test", "train teacher", "score", "topk"}
    expected |= {
        "signature labelled",
        "signature test",
        "leakage copies",
        "gather labelled",
        "predictions teacher_check",
        "gather",
        "train student before fine-tuning",
        "train student after fine-tuning",
        "train baseline before fine-tuning",
    }
    assert set(names) == expected | {"train baseline, labels only", "evaluate", "report"}
    assert len(names) == len(set(names))


def test_run_has_progress_a_summary_and_a_report_that_opens(
    served: Served, finished: tuple[str, str]
) -> None:
    wanted = {"artifacts": {"flow_run_id": {"any_": list(finished)}}}
    artifacts = served.ask("artifacts/filter", wanted)
    descriptions = [one["description"] for one in artifacts]
    assert any(
        text.startswith("train teacher: 20 of 20") and "a second" in text for text in descriptions
    )
    assert any(text.startswith("score: ") for text in descriptions)
    summary = next(one["data"] for one in artifacts if one["description"] == "Summary")
    for word in ("student", "baseline", "rejected", served.pages):
        assert word in summary
    address = next(text for text in descriptions if text.startswith("Report: ")).removeprefix(
        "Report: "
    )
    with urllib.request.urlopen(address, timeout=EVENT_SECONDS) as answer:
        assert b"<!doctype html>" in answer.read(100).lower()


def test_pages_serve_nothing_but_reports(served: Served, campaign: Campaign) -> None:
    with urllib.request.urlopen(f"{served.pages}/", timeout=EVENT_SECONDS) as answer:
        assert campaign.id in answer.read().decode()
    for path in (
        f"/campaigns/{campaign.id}.json",
        "/report/../campaigns",
        "/etc/passwd",
        "/report/",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{served.pages}{path}", timeout=EVENT_SECONDS)


def test_same_form_again_does_no_work(
    served: Served, finished: tuple[str, str], data: Path
) -> None:
    before = made(served.root)
    again = served.submit(tiny(data))
    served.await_state(again, "Completed")
    assert made(served.root) == before
    served.await_line(again, "report: reads")
    there = [line for line in served.log(again) if "all of it was already there" in line]
    assert Counter(line.split(":")[0] for line in there) == {
        "shard": 3,
        "train": 5,
        "score": 1,
        "signature": 2,
        "topk": 1,
        "leakage": 1,
        "gather": 2,
        "predictions": 5,
        "evaluate": 1,
        "report": 1,
    }


def test_bad_value_is_refused_before_the_run_starts(served: Served, data: Path) -> None:
    good = tiny(data).topk.model_dump(mode="json")
    runs = len(served.runs_of("billion-scale/default"))
    for wrong, named in (({"k": 0}, "topk"), ({"kk": 3}, "kk"), ({"mode": "best"}, "mode")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            served.start("billion-scale/default", {"topk": {**good, **wrong}})
        assert named in refused.value.read().decode()
    assert len(served.runs_of("billion-scale/default")) == runs


def test_two_runs_of_the_same_make_everything_once(
    served: Served, finished: tuple[str, str], campaign: Campaign
) -> None:
    """Two deployments, so no limit keeps them apart; the lease does."""
    logs = [served.log(run_id) for run_id in finished]
    waited = [line for log in logs for line in log if "is being made by run" in line]
    assert waited, "the second one says who holds it"
    for role in campaign.outputs:
        lines = [line for log in logs for line in log if line.startswith(f"{role}: {served.root}")]
        assert len(lines) == 2, role
        if role != "supervised":  # the same training as the teacher, here
            assert sum(" made in " in line for line in lines) == 1, role


def test_stage_runs_by_itself(served: Served, campaign: Campaign) -> None:
    addresses = {role: output.uri for role, output in campaign.outputs.items()}
    forms: dict[str, dict[str, Any]] = {
        "topk/single": {"scores": addresses["score"], "options": {"k": 3, "top_p": 2}},
        "evaluate/single": {"test": addresses["test"], "model": addresses["student"]},
        "recheck-rejects/single": {"images": addresses["pile"]},
    }
    runs = [served.start(name, parameters) for name, parameters in forms.items()]
    wrong = served.start("topk/single", {"scores": addresses["pile"]})
    for run_id in runs:
        served.await_state(run_id, "Completed")
    served.await_state(wrong, "Failed")
    assert "is an output of shard; wanted is score" in served.run(wrong)["state"]["message"]


def test_relative_sources_are_those_of_where_the_command_was_given(served: Served) -> None:
    """The worker has a working folder of its own."""
    (served.folder / "mine" / "pile").mkdir(parents=True)
    sources = [f"--set={role}.source=mine/{role}" for role in ("labelled", "pile", "test")]
    audit = "--set=evaluate.audit=mine/audit.csv"
    printed = served.protege("run", "billion-scale", "--deployment", *sources, audit)
    run_id = printed.strip().rsplit("/", 1)[1]
    given = served.run(run_id)["parameters"]
    for role in ("labelled", "pile", "test"):
        assert given[role]["source"] == str(served.folder / "mine" / role)
    assert given["evaluate"]["audit"] == str(served.folder / "mine" / "audit.csv")
    served.await_state(run_id, "Failed")
