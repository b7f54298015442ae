"""`import protege`: the stages and the recipes from Python, and the notebook of the guide."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import protege as pg
from infra.errors import ProtegeError
from tasks.campaigns import campaigns
from tasks.contract import Output
from tests.builders.campaign import tiny

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
SMALL: dict[str, Any] = {
    "model": "mean_colour",
    "inputs": {"size": 16, "resize": 16, "pixels": "unit"},
    "length": "6 steps",
    "batch_size": 8,
    "learning_rate": {"base": 8.0},
    "augment": {"crop_min_area": 1, "flip": False},
    "speed": {"threads": 1},
}


def result(output: Output) -> pg.Result:
    """What a verb returns in a notebook; the verbs of any run promise an output only."""
    assert isinstance(output, pg.Result)
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pg.Run:
    return pg.open(tmp_path_factory.mktemp("notebook") / "out")


@pytest.fixture(scope="module")
def labelled(run: pg.Run, pictures: Path) -> pg.Result:
    return result(run.shard(pictures / "labelled", labelled=True))


@pytest.fixture(scope="module")
def teacher(run: pg.Run, labelled: pg.Result) -> pg.Result:
    return result(run.train(labelled, **SMALL))


def test_options_are_an_object_or_keywords_and_a_mistake_is_one_sentence(run: pg.Run) -> None:
    with pytest.raises(ProtegeError, match=r"batch_siz: no such option; did you mean 'batch_size'"):
        run.score(None, None, batch_siz=3)  # type: ignore[arg-type]


def test_output_shows_what_it_is(run: pg.Run, labelled: pg.Result, pictures: Path) -> None:
    assert repr(labelled) == f"<shard: 12 rows, {labelled.uri}>"
    html = labelled._repr_html_()
    assert html.count("<img") == 12
    assert labelled.uri in html
    assert run.output(labelled.uri).digest == labelled.digest


def test_the_whole_method_by_its_verbs(
    run: pg.Run, labelled: pg.Result, teacher: pg.Result, pictures: Path
) -> None:
    pile = run.shard(pictures / "pile", images_per_shard=16)
    scores = run.score(pile, teacher, top_p=3)
    chosen = run.topk(scores, k=6, top_p=2, exclude={"labelled": labelled})
    assert chosen.table("classes").num_rows == 3
    assert result(chosen)._repr_html_().count("<img") == 3
    lessons = run.gather(pile, chosen)
    assert result(lessons)._repr_html_().count("<img")
    student = run.fine_tune(run.train(lessons, **SMALL), labelled, length="2 steps", batch_size=8)
    assert student.classes == ["blue", "green", "red"]
    assert next(node.stage for node in student.lineage()) == "train"
    assert pile.rejects().num_rows == 0
    with pytest.raises(ProtegeError, match="has no table 'chosen'; there are: lessons"):
        lessons.table("chosen")


def test_model_answers_for_files_and_is_loaded_by_its_path(
    teacher: pg.Result, pictures: Path
) -> None:
    picture = next((pictures / "test" / "red").iterdir())
    (prediction,) = teacher.predict([picture], top_k=2)
    assert len(prediction.labels) == 2
    assert sum(prediction.probabilities) <= 1
    model = pg.load(teacher.uri)
    assert model.predict([picture.read_bytes()])[0].label == prediction.label
    assert model.decode(picture).shape == (16, 16, 3)


def test_recipe_runs_as_a_campaign(run: pg.Run, pictures: Path) -> None:
    models = pg.recipes.billion_scale(run, tiny(pictures), topk={"k": 5})
    assert list(models) == ["teacher", "baseline", "pretrained", "student"]
    assert isinstance(models["student"], pg.Result)
    (campaign,) = campaigns(run.store)
    assert campaign.finished
    assert campaign.options["topk"]["k"] == 5


def test_notebook_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code cell in order, with fewer steps, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) == 10
    namespace: dict[str, Any] = {}
    for source in sources:
        exec(source.replace("600 steps", "40 steps").replace("100 steps", "4 steps"), namespace)
    assert namespace["student"].classes == [str(digit) for digit in range(10)]
    shutil.rmtree(tmp_path / "notebook-output")
