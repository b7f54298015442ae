"""A model by the name of a campaign: its result, and what an export says of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.commands.named_model import find_model
from infra.errors import ProtegeError
from infra.store import Store
from tasks.campaigns import Campaign, save
from tests.builders.models import model

NAME = "billion-scale-1f3a0b2c-000"


@pytest.fixture
def campaign(root: Store) -> Campaign:
    """A finished campaign with a student and its figures."""
    outputs = {"teacher": model(root, seed=1), "student": model(root, "resnet18")}
    summary = {"student_top1": 0.75, "test_images": 300}
    found = Campaign(NAME, "billion-scale", {}, {}, outputs=outputs, summary=summary)
    save(root, found)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_campaign_stands_for_its_student_and_an_address_for_itself(
    root: Store, campaign: Campaign
) -> None:
    found = find_model(NAME, root.uri)
    assert found.address == campaign.outputs["student"].uri
    assert found.campaign is not None
    for address in ("out/train/3f2a", "student.safetensors", "s3://bucket/train/3f2a"):
        assert find_model(address, root.uri).address == address
        assert find_model(address, root.uri).campaign is None


def test_name_that_is_neither_a_campaign_nor_a_folder_is_refused(
    root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProtegeError, match=r"has no campaign 'folder', .*PROTEGE_ROOT"):
        find_model("folder", root.uri)
    (tmp_path / "folder").mkdir()
    assert find_model("folder", root.uri).address == "folder"


def test_campaign_without_a_student_yet_says_how_to_go_on(root: Store, campaign: Campaign) -> None:
    save(root, replace(campaign, outputs={"teacher": campaign.outputs["teacher"]}))
    with pytest.raises(ProtegeError, match=f"{NAME} has no student yet: `protege resume {NAME}`"):
        find_model(NAME, root.uri)


def test_card_of_an_exported_student_has_the_figures_of_its_campaign(
    root: Store, campaign: Campaign, tmp_path: Path
) -> None:
    out = tmp_path / "student"
    done = run("export", NAME, "--root", root.uri, "--format", "hf", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{out}: model.safetensors and config.json")
    _, front, text = (out / "README.md").read_text().split("---\n", 2)
    (result,) = yaml.safe_load(front)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.75
    assert "Right on 75.0% (standard error 2.5%) of the 300 test images" in text
    assert "Yalniz et al. 2019" in text
    origin = json.loads((out / "export.json").read_text())["origin"]
    assert (origin["campaign"], origin["recipe"]) == (NAME, "billion-scale")


def test_student_is_asked_by_the_name_of_its_campaign(
    root: Store, campaign: Campaign, pictures: Path
) -> None:
    place = str(pictures / "test")
    by_name = run("predict", NAME, place, "--root", root.uri)
    by_address = run("predict", campaign.outputs["student"].uri, place)
    assert by_name.stdout.count("\n") == 16
    assert by_name.stdout == by_address.stdout


@pytest.mark.parametrize("command", ["export", "predict"])
def test_model_that_is_not_there_and_help(command: str, tmp_path: Path) -> None:
    rest = ["--out", str(tmp_path / "out")] if command == "export" else [str(tmp_path)]
    done = run(command, "nowhere", *rest, "--root", str(tmp_path))
    assert isinstance(done.exception, ProtegeError)
    assert "has no campaign 'nowhere'" in str(done.exception)
    text = run(command, "--help").output
    assert f"protege {command} billion-scale-1f3a0b2c-000" in text
