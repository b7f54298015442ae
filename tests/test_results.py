"""Results: what commands say of a finished campaign, to people and to programs."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.campaign.progress import Bars
from flows.campaign.summary import show
from flows.cli import app
from flows.engine.execute import execute
from flows.recipes import RECIPES
from infra.store import open_store
from models.registry import NETWORKS
from tasks.campaigns import Campaign, campaigns
from tests.builders.campaign import tiny
from tests.test_cli import protege, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with the options of a campaign, and the root in which it is finished."""
    folder = tmp_path_factory.mktemp("results")
    options = tiny(pictures)
    (folder / "mine.yaml").write_text(yaml.safe_dump(options.model_dump(mode="json")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROTEGE_EXECUTOR", "inline")
        execute("billion-scale", options, str(folder / "root"))
    return folder


@pytest.fixture(scope="module")
def campaign(folder: Path) -> Campaign:
    (campaign,) = campaigns(open_store(str(folder / "root")))
    return campaign


def lines_of(*words: str) -> str:
    return CliRunner().invoke(app, list(words), catch_exceptions=False).output


def run_again(folder: Path, *words: str, quiet: tuple[str, ...] = ()) -> tuple[str, str]:
    """What the same command says on its two streams when nothing is left to do."""
    place = ("--config", str(folder / "mine.yaml"), "--root", str(folder / "root"))
    done = protege(*quiet, "run", "billion-scale", *place, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_terminal_says_where_the_weights_are_and_how_to_use_them(
    campaign: Campaign, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(campaign.summary)
    lines = capsys.readouterr().out.splitlines()
    weights = f"{campaign.outputs['student'].uri}/weights.safetensors"
    assert f"weights of the student after fine-tuning: {weights}" in lines
    (command,) = [line for line in lines if "import protege as pg" in line]
    namespace: dict[str, Any] = {}
    exec(command.strip(), namespace)
    (answer,) = namespace["model"].predict([next((pictures / "test" / "red").iterdir())])
    assert answer.label in {"red", "green", "blue"}


def test_result_of_run_is_a_table_or_json_and_the_rest_is_on_the_other_stream(
    folder: Path, campaign: Campaign
) -> None:
    out, said = run_again(folder, "--json")
    assert json.loads(out) == campaign.summary
    assert f"{campaign.id} is complete" in said


def test_quiet_says_nothing_but_the_result(folder: Path, campaign: Campaign) -> None:
    out, said = run_again(folder, quiet=("--quiet",))
    assert said == ""
    assert f"{campaign.summary['student_top1']:.1%}".replace("%", "") in out


def test_quiet_work_shows_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for quiet in (False, True):
        monkeypatch.setattr("flows.terminal._quiet", quiet)
        with Bars() as bars:
            bars.watch("score")(0, 3, "")
            logging.getLogger("flows.campaign.stage_run").info("score: made in 1 s")
        said.append(capsys.readouterr().err)
    assert said == ["score: begins, 0 of 3\nscore: made in 1 s\n", ""]


def test_campaigns_are_listed_with_their_figures(folder: Path, campaign: Campaign) -> None:
    root = str(folder / "root")
    (line,) = lines_of("campaigns", "--root", root).splitlines()
    assert line.startswith(f"{campaign.id}  finished {campaign.finished_at}  ")
    assert f"Student after fine-tuning {campaign.summary['student_top1']:.1%}" in line
    (content,) = json.loads(lines_of("campaigns", "--root", root, "--json"))
    assert content["campaign"] == campaign.id
    assert content["summary"] == campaign.summary
    assert lines_of("campaigns", "--root", str(folder / "other")) == (
        "there are no campaigns in this root\n"
    )


def test_campaign_is_shown_by_its_name(folder: Path, campaign: Campaign, pictures: Path) -> None:
    root = str(folder / "root")
    lines = lines_of("show", campaign.id, "--root", root).splitlines()
    assert f"  pile.source: {pictures}/pile" in lines
    assert f"  report: {campaign.summary['report']}" in lines
    student = campaign.outputs["student"]
    assert f"  student: {student.uri} ({student.kept:,} rows)" in lines
    assert any(line.endswith(f"{student.uri}/weights.safetensors") for line in lines)
    content = json.loads(lines_of("show", campaign.id, "--root", root, "--json"))
    assert content["outputs"] == {role: out.uri for role, out in campaign.outputs.items()}


def test_models_and_recipes_are_given_to_programs() -> None:
    models = json.loads(lines_of("models", "--json"))
    assert set(models) == set(NETWORKS)
    assert models["resnet50"]["parameters"] == 25_557_032
    assert models["resnet50"]["input_size"] == 224
    assert models["resnet50"]["gmacs"] == 4.089
    assert models["resnet50"]["inputs"]["resize"] == 256
    top1 = {known["method"]: known["top1"] for known in models["resnet50"]["published"]}
    assert top1["supervised"] == 76.156
    assert top1["semi-weakly supervised"] == 81.146
    assert set(json.loads(lines_of("models", "resnext", "--json"))) == {
        name for name in NETWORKS if "resnext" in name
    }
    recipes = json.loads(lines_of("recipes", "--json"))
    assert recipes == {name: dict(recipe.presets) for name, recipe in RECIPES.items()}


def test_table_of_models_has_accuracies_with_and_without_the_method() -> None:
    lines = lines_of("models", "RESNET18").splitlines()
    cells = ["resnet18", "11.69 M", "1.814", "224 px", "69.8 / 89.1", "73.3 / 91.8"]
    (row,) = [line for line in lines if line.startswith("resnet18")]
    assert [cell for cell in cells if cell in row] == cells
    assert row.endswith("semi-weakly supervised")
    assert len([line for line in lines if line.startswith("efficient")]) == 0
    assert len(lines_of("models", "efficientnet").splitlines()) > len(lines)


def test_filter_that_no_model_fits_names_the_nearest() -> None:
    assert "try efficientnet_b7, " in refused("models", "efficentnet_b7")
