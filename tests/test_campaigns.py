"""Campaigns: what several runs write of one, and a root that is moved."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.campaigns import Campaign, begin, find, update
from tasks.contract import Output
from tasks.shard import Snapshot

PINS = Snapshot("ab12", "cd34", ("pins/00000.parquet",))


def output(root: Store, fingerprint: str) -> Output:
    uri = f"{root.uri}/train/{fingerprint}"
    return Output("train", fingerprint, uri, "manifest.json", "d", 5, 5, 0, 1.0)


def begun(root: Store) -> Campaign:
    return begin(root, "billion-scale", {}, {"pile": PINS}, "key")


def test_runs_of_one_campaign_do_not_remove_what_others_wrote(root: Store) -> None:
    campaign, roles = begun(root), [f"role{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        # Each knows of the campaign as it was at first.
        list(
            pool.map(lambda role: update(root, campaign, outputs={role: output(root, role)}), roles)
        )
    found = find(root, campaign.id)
    assert found is not None
    assert set(found.outputs) == set(roles)


def test_finished_campaign_stays_finished(root: Store) -> None:
    campaign = begun(root)
    done = update(root, campaign, summary={"top1": 0.5}, finished_at="2026-01-01T00:00:00Z")
    late = update(root, campaign, outputs={"student": output(root, "s")}, pinned=True)
    assert (late.finished_at, late.summary) == (done.finished_at, done.summary)
    again = update(root, campaign, summary={"top1": 0.9}, finished_at="2026-02-02T00:00:00Z")
    assert (again.finished_at, again.summary) == (done.finished_at, done.summary)
    assert set(again.outputs) == {"student"}


def test_run_over_other_snapshots_than_those_that_were_pinned_stops(root: Store) -> None:
    campaign = begun(root)
    other = replace(campaign, snapshots={"pile": replace(PINS, digest="ef56")})
    update(root, campaign, pinned=True)
    with pytest.raises(ProtegeError, match="pinned its sources as they were at another time"):
        update(root, other, pinned=True)
    found = find(root, campaign.id)
    assert found is not None
    assert found.snapshots == campaign.snapshots


def test_root_that_is_moved_takes_its_campaigns_along(root: Store, tmp_path: Path) -> None:
    campaign = begun(root)
    update(root, campaign, outputs={"student": output(root, "s")})
    text = root.read(f"campaigns/{campaign.id}.json").decode()
    assert root.uri not in json.dumps(json.loads(text)["outputs"])
    Path(root.uri).rename(tmp_path / "moved")
    moved = open_store(str(tmp_path / "moved"))
    found = find(moved, campaign.id)
    assert found is not None
    assert found.outputs["student"].uri == f"{moved.uri}/train/s"
