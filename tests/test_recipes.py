"""A recipe is one folder and one line: registered, it runs from everywhere, and has a form."""

import sys
from pathlib import Path
from typing import Any

import pytest

from flows import recipes
from flows.campaign.find import find_campaign, sections_of, sources_of
from flows.campaign.run import Run
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.campaigns import campaigns
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.train import Training
from tests.builders import toy as toy_recipe
from tests.builders.campaign import AUGMENT, SPEED, tiny
from tests.builders.toy import TOY
from tests.builders.toy.method import toy
from tests.builders.toy.options import Toy

ROLES = ["images", "images_lessons", "teacher", "student", "score"]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line in flows/recipes.py."""
    monkeypatch.setitem(recipes.RECIPES, TOY.name, TOY)


def options(pictures: Path) -> Toy:
    short = {"length": Length(amount=2, unit="steps"), "batch_size": 8, "speed": SPEED}
    return Toy(
        images=ShardOptions(source=str(pictures / "labelled"), labelled=True),
        teacher=tiny(pictures).teacher,
        fine_tune=Training(augment=AUGMENT, **short),
    )


def roles_of(root: Store) -> list[str]:
    (campaign,) = campaigns(root, TOY.name)
    assert campaign.finished
    return list(campaign.outputs)


def test_recipe_of_existing_stages_is_a_small_folder() -> None:
    folder = Path(toy_recipe.__file__).parent
    lines = sum(len(path.read_text().splitlines()) for path in folder.glob("*.py"))
    assert lines <= 120


def test_it_runs_from_python_without_prefect(root: Store, pictures: Path) -> None:
    outputs = toy(Run(root, Inline()), options(pictures))
    assert outputs["student"].classes == ["blue", "green", "red"]
    assert not root.sizes("campaigns")


def test_it_runs_in_a_campaign_that_is_complete_afterwards(root: Store, pictures: Path) -> None:
    chosen = options(pictures)
    campaign = find_campaign(root, TOY.name, chosen, sources_of(chosen))
    models, result = TOY.run(Run(root, Inline(), campaign=campaign), chosen)
    assert result["campaign"] == campaign.id
    assert list(models) == ["teacher", "student"]
    assert roles_of(root) == ROLES


@pytest.mark.timeout(240)
def test_it_runs_from_the_command_line(
    root: Store, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli import main

    config = tmp_path / "toy.yaml"
    config.write_text(options(pictures).model_dump_json())  # JSON is YAML
    words = ["protege", "run", "toy", "--config", str(config), "--root", root.uri]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert roles_of(root) == ROLES


@pytest.mark.timeout(240)
def test_it_runs_as_a_deployment(root: Store, pictures: Path) -> None:
    """The record that `protege up` registers, loaded and run as a worker's process does it."""
    from prefect import get_client
    from prefect.flow_engine import load_flow_and_flow_run, run_flow
    from prefect.types.entrypoint import EntrypointType

    from flows.operate.catalog import deployments

    (offered,) = [deployment for deployment in deployments() if deployment.function == "toy"]
    described = offered.load().to_deployment(
        name=offered.name, entrypoint_type=EntrypointType.MODULE_PATH
    )
    assert described.entrypoint == "flows.engine.flows.toy"
    sections = sections_of(options(pictures)).items()
    parameters: dict[str, Any] = {name: value.model_dump(mode="json") for name, value in sections}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            described.apply(), parameters={**parameters, "root": root.uri}
        )
        flow_run, flow = load_flow_and_flow_run(run.id)
        run_flow(flow, flow_run)
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_completed(), state
    assert roles_of(open_store(root.uri)) == ROLES
