"""compare: campaigns side by side, in the terminal, as JSON and as a page."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.campaign.compare import compare, same_images
from flows.campaign.find import find_campaign, sources_of
from flows.campaign.options import RecipeOptions
from flows.campaign.run import Run
from flows.cli import app
from flows.recipes import recipe
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.campaigns import Campaign
from tasks.evaluate import predict, predictions_in, read_predictions
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train.options import LearningRate
from tests.builders.campaign import tiny
from tests.builders.pictures import write_sources
from tests.builders.simclr import tiny_simclr


def finish(root: Store, name: str, options: RecipeOptions) -> Campaign:
    campaign = find_campaign(root, name, options, sources_of(options))
    run = Run(root, Inline(), campaign=campaign)
    recipe(name).run(run, options)
    return run.campaign


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("compare")))


@pytest.fixture(scope="module")
def campaigns(root: Store, pictures: Path) -> list[Campaign]:
    """The same recipe twice, the second without a training worth its name, and another recipe."""
    options = tiny(pictures)
    # A step with a decay that turns the sign of every weight.
    spoiled = {
        "length": Length(amount=1, unit="steps"),
        "learning_rate": LearningRate(base=100),
        "weight_decay": 1.0,
        "seed": 1,
    }
    worse = tiny(pictures, fine_tune=spoiled)
    return [
        finish(root, "billion-scale", options),
        finish(root, "billion-scale", worse),
        finish(root, "simclr-v2", tiny_simclr(pictures)),
    ]


def test_options_and_figures_stand_side_by_side(root: Store, campaigns: list[Campaign]) -> None:
    first, second, _ = campaigns
    found = compare(root, [first, second])
    options = {row.name: row.texts for row in found.options}
    assert options == {
        "fine_tune.learning_rate.base": ("0.1", "100.0"),
        "fine_tune.length.amount": ("2.0", "1.0"),
        "fine_tune.weight_decay": ("0.0001", "1.0"),
        "fine_tune.seed": ("0", "1"),
    }
    figures = {row.name: row.texts for row in found.figures}
    assert {"Teacher", "Student after fine-tuning", "Gain, in points", "Time"} <= set(figures)
    assert figures["Teacher"][0] == figures["Teacher"][1]


def test_disagreements_are_the_images_that_not_all_know(
    root: Store, campaigns: list[Campaign]
) -> None:
    first, second, _ = campaigns
    found = compare(root, [first, second])
    right = []
    for campaign in (first, second):
        predicted = predictions_in(campaign.outputs["evaluate"], "student")
        rows = read_predictions(predicted, ["image_id", "label", "predicted"]).to_pylist()
        right.append({row["image_id"] for row in rows if row["predicted"] == row["label"]})
    assert {row.image_id for row in found.disagreements} == right[0] ^ right[1] != set()
    surest = [
        max(a.probability for a in row.answers if not a.is_right) for row in found.disagreements
    ]
    assert surest == sorted(surest, reverse=True)


def test_campaigns_of_other_recipes_are_compared(root: Store, campaigns: list[Campaign]) -> None:
    found = compare(root, campaigns)
    options = {row.name: row.texts for row in found.options}
    assert found.figures[0].name == "Result"
    assert "\u2013" not in found.figures[0].texts
    assert options["recipe"] == ("billion-scale", "billion-scale", "simclr-v2")
    assert options["topk.k"][2] == options["contrast.temperature"][0] == "\u2013"
    assert found.images is not None
    assert all(len(row.answers) == 3 for row in found.disagreements)


def test_answers_on_other_test_images_are_not_compared(
    root: Store, campaigns: list[Campaign], tmp_path: Path
) -> None:
    write_sources(tmp_path, seed=9, labelled=1, pile=1, test=5)
    images = shard(root, ShardOptions(source=str(tmp_path / "test"), labelled=True))
    first = predictions_in(campaigns[0].outputs["evaluate"], "student")
    other = predict(root, campaigns[0].outputs["student"], images)
    assert same_images(root, [first, first]) is not None
    assert same_images(root, [first, other]) is None
    assert same_images(root, [first, None]) is None


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["compare", *words])


def test_command_prints_tables_json_and_a_page(
    root: Store, campaigns: list[Campaign], tmp_path: Path
) -> None:
    names = [campaign.id for campaign in campaigns]
    page = tmp_path / "compared.html"
    result = run(*names[:2], "--root", root.uri, "--html", str(page))
    assert result.exit_code == 0, result.output
    assert "fine_tune.seed" in result.output
    text = page.read_text()
    assert all(name in text for name in names[:2])
    assert text.count("<img") == len(compare(root, campaigns[:2]).disagreements)
    result = run(*names, "--root", root.uri, "--json")
    content = json.loads(result.output)
    assert content["campaigns"] == names
    assert content["options"]["fine_tune.seed"][names[1]] == "1"


def test_what_cannot_be_compared_is_one_sentence(
    root: Store, campaigns: list[Campaign], pictures: Path
) -> None:
    result = run(campaigns[0].id, "--root", root.uri)
    assert isinstance(result.exception, ProtegeError)
    assert "give two campaigns or more" in str(result.exception)
    result = run(campaigns[0].id, "nothing-000", "--root", root.uri)
    assert "has no campaign 'nothing-000'" in str(result.exception)
    begun = tiny(pictures, topk={"k": 2})
    unfinished = find_campaign(root, "billion-scale", begun, sources_of(begun))
    with pytest.raises(ProtegeError, match="is not finished"):
        compare(root, [campaigns[0], unfinished])
