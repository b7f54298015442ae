"""The same command over sources that have changed is another campaign, and says so."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.billion_scale.options import BillionScale
from flows.campaign.find import find_campaign, sources_of
from flows.engine.execute import execute
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from infra.store import Store
from tasks.campaigns import Campaign, campaigns, find, save
from tests.builders.campaign import tiny
from tests.builders.pictures import write_folder


@pytest.fixture
def data(tmp_path: Path, pictures: Path) -> Path:
    """Sources that a test may change."""
    shutil.copytree(pictures, tmp_path / "data")
    return tmp_path / "data"


def begun(root: Store, options: BillionScale) -> Campaign:
    return find_campaign(root, BILLION_SCALE.name, options, sources_of(options))


def pinned(root: Store, options: BillionScale) -> Campaign:
    """A campaign that was stopped after it had pinned its sources."""
    campaign = replace(begun(root, options), pinned=True)
    save(root, campaign)
    return campaign


def grow(data: Path) -> None:
    new = np.random.default_rng(9)
    write_folder(data / "pile", new, per_class=5, labelled=False, prefix="new")


def test_pinned_campaign_over_sources_that_have_changed_is_followed_by_another(
    root: Store, data: Path
) -> None:
    first = pinned(root, tiny(data))
    assert begun(root, tiny(data)).id == first.id, "as long as nothing has changed"
    grow(data)
    second = begun(root, tiny(data))
    assert second.id != first.id
    assert second.snapshots["pile"] != first.snapshots["pile"]
    assert find(root, first.id) == first, "which goes on with what its sources held"
    assert begun(root, tiny(data)).id == second.id


def test_campaign_that_was_not_pinned_follows_its_sources(root: Store, data: Path) -> None:
    first = begun(root, tiny(data))
    grow(data)
    second = begun(root, tiny(data))
    assert second.id == first.id
    assert second.snapshots["pile"] != first.snapshots["pile"]


def test_the_same_command_names_the_unfinished_campaign_and_how_to_go_on_with_it(
    root: Store, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pinned(root, tiny(data))
    grow(data)
    finished = replace(begun(root, tiny(data)), finished_at="2026-01-01T00:00:00Z")
    save(root, finished)
    execute(BILLION_SCALE.name, tiny(data), root.uri)
    said = capsys.readouterr().err
    assert f"the sources have changed since {first.id} began" in said
    assert f"`protege resume {first.id} --root {root.uri}` goes on" in said


def test_campaign_that_is_finished_or_its_own_is_not_named(
    root: Store, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(root, replace(pinned(root, tiny(data)), finished_at="2026-01-01T00:00:00Z"))
    grow(data)
    save(root, replace(pinned(root, tiny(data)), finished_at="2026-01-02T00:00:00Z"))
    execute(BILLION_SCALE.name, tiny(data), root.uri)
    assert "the sources have changed" not in capsys.readouterr().err


def test_another_campaign_is_checked_before_work_as_the_first_one_was(
    root: Store, data: Path
) -> None:
    pinned(root, tiny(data))
    (data / "test" / "violet").mkdir()
    shutil.copy(next((data / "test" / "red").iterdir()), data / "test" / "violet")
    with pytest.raises(ProtegeError, match="of its classes have no image in labelled"):
        execute(BILLION_SCALE.name, tiny(data), root.uri)
    assert not any(campaign.outputs for campaign in campaigns(root))
