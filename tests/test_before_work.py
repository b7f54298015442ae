"""Before work: what plan and run find out of sources, options and the machine, by looking only."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from flows.billion_scale import presets
from flows.billion_scale.options import BillionScale
from flows.campaign import machine
from flows.campaign.before import check_before_work
from flows.campaign.check import check
from flows.campaign.machine import Machine, check_machine, with_costs
from flows.campaign.survey import Sources, SourceSize, doubts_of, survey
from flows.cli import app
from flows.commands.yaml_help import options_yaml
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from tasks.cost import StepCost, cost_of, is_costless
from tasks.estimate import Estimate
from tasks.images import Inputs
from tasks.shard import ShardOptions
from tasks.train import TrainOptions
from tasks.train.options import Start
from tests.builders.campaign import tiny
from tests.builders.sources import image

COST = StepCost(1, 1, 1, pixel_bytes=1, forward_image_bytes=1, image_seconds=None)


def table(path: Path, labels: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [image(number) for number in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return str(path.parent)


def size_of(source: str) -> SourceSize:
    options = ShardOptions(source=source, labelled=True)
    return survey(options, options.list_files())


def test_rows_of_tables_are_counted_with_their_classes(tmp_path: Path) -> None:
    size = size_of(table(tmp_path / "t" / "a.parquet", ["cat", "dog", "cat"]))
    assert (size.images, size.classes, size.uncounted) == (3, ("cat", "dog"), 0)


def test_too_many_loose_images_are_said_with_the_remedy(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("flows.campaign.survey.MAX_LOOSE", 50)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny(pictures).model_dump(mode="json")))
    text = CliRunner().invoke(app, ["plan", "billion-scale", "--config", str(config)]).output
    (line,) = [line for line in text.splitlines() if "loose images" in line]
    assert line.startswith("doubtful: pile.source: 60 loose images take about 99 kB of memory")
    assert "pack them into .tar files" in line


def test_members_of_tar_files_are_said_not_to_be_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"\0" * 10_240)
    size = size_of(str(tmp_path))
    assert (size.images, size.classes, size.uncounted) == (0, None, 1)
    assert "1 files whose images are not counted" in str(size)


def test_classes_of_a_single_image_are_doubtful(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image(1))
    (doubt,) = doubts_of({"labelled": size_of(str(tmp_path))})
    assert doubt.startswith("labelled.source: of 1 of its 2 classes there is a single image (dog)")
    pile = ShardOptions(source=str(tmp_path))
    assert not list(doubts_of({"pile": survey(pile, pile.list_files())}))


def stray(options: BillionScale, folder: Path) -> dict[str, Any]:
    (folder / "stray").mkdir()
    for name in ("a/1.png", "b/1.png", "lost.png"):
        (folder / "stray" / name).parent.mkdir(exist_ok=True)
        (folder / "stray" / name).write_bytes(image(1))
    return {"labelled": {"source": str(folder / "stray")}}


def one_class(options: BillionScale, folder: Path) -> dict[str, Any]:
    (folder / "one" / "cat").mkdir(parents=True)
    (folder / "one" / "cat" / "1.png").write_bytes(image(1))
    return {"labelled": {"source": str(folder / "one")}}


def other_classes(options: BillionScale, folder: Path) -> dict[str, Any]:
    return {"test": {"source": table(folder / "test" / "a.parquet", ["violet", "red"])}}


def audit(options: BillionScale, folder: Path) -> dict[str, Any]:
    (folder / "audit.csv").write_text("name,class\na,b\n")
    return {"evaluate": {"audit": str(folder / "audit.csv")}}


FAULTS: dict[str, tuple[Callable[[BillionScale, Path], dict[str, Any]], str]] = {
    "stray": (stray, "1 labelled images have no class (lost.png)"),
    "one class": (one_class, "at least 2 classes are needed, and it has 1 (cat)"),
    "other classes": (
        other_classes,
        "test.source: 1 of its classes have no image in labelled.source: violet",
    ),
    "audit": (audit, "evaluate.audit: "),
    "no pile": (lambda *_: {"pile": {"source": "/nowhere"}}, "pile.source: /nowhere"),
    "weights": (
        lambda *_: {"teacher": {"start": Start(weights="/nowhere.pth")}},
        "there is no file /nowhere.pth",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_be_seen_before_work_is_refused(
    tmp_path: Path, pictures: Path, fault: str
) -> None:
    make, sentence = FAULTS[fault]
    options = tiny(pictures)
    options = tiny(pictures, **make(options, tmp_path))
    with pytest.raises(ProtegeError) as error:
        check(BILLION_SCALE, Sources(options), whole=True)
    assert sentence in str(error.value)


def test_a_network_of_timm_that_is_not_there_is_refused(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.campaign.check.find_spec", lambda _name: None)
    with pytest.raises(ProtegeError, match=r"teacher\.model: timm/x needs the package timm"):
        check(BILLION_SCALE, Sources(tiny(pictures, teacher={"model": "timm/x"})))


STAND_IN = """
NAMES = ["resnet18", "resnet18d"]
def is_model(name): return name in NAMES
def list_models(pattern): return [name for name in NAMES if name.startswith(pattern[1:7])]
"""


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package timm; where it is not installed, one that answers the two questions of ours."""
    if find_spec("timm") is None:
        (tmp_path / "timm.py").write_text(STAND_IN)
        monkeypatch.syspath_prepend(tmp_path)
        yield
        sys.modules.pop("timm", None)
    else:
        yield


@pytest.mark.usefixtures("timm")
def test_a_network_that_timm_does_not_know_is_refused_with_those_near_it(pictures: Path) -> None:
    with pytest.raises(ProtegeError) as error:
        check(BILLION_SCALE, Sources(tiny(pictures, teacher={"model": "timm/resnet18x"})))
    assert "teacher.model: timm has no network 'resnet18x'; near it are: " in str(error.value)
    assert "resnet18d" in str(error.value)
    # The part behind the dot names weights, of which timm asks its hub.
    check(BILLION_SCALE, Sources(tiny(pictures, teacher={"model": "timm/resnet18.a1_in1k"})))


def test_relative_places_are_stored_resolved(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    teacher = {"start": Start(weights="w.pth", classes="labelled")}
    relative = tiny(
        Path(), teacher=teacher, evaluate={"audit": "a.csv"}, pile={"source": "s3://bucket/pile"}
    )
    options = relative.resolved()
    assert options.labelled.source == str(pictures / "labelled")
    assert options.evaluate.audit == str(pictures / "a.csv")
    assert options.pile.source == "s3://bucket/pile"
    assert options.teacher.start.weights == str(pictures / "w.pth")
    assert options.teacher.start.classes == "labelled"
    assert options.student.start.weights == ""


def test_memory_of_a_step_is_that_of_its_layers() -> None:
    options = TrainOptions(model="resnet50", inputs=Inputs(size=224, resize=256))
    cost = cost_of(options, 1000, measure=False)
    assert cost.parameters == 25_557_032
    # 24 images at once were seen to take 3.3 GiB with a checkpoint at each step.
    assert 3.2 < cost.step_bytes(24) / 2**30 < 3.9
    assert 20 < cost.step_bytes(256) / 2**30 < 26


def test_virtual_ranks_make_a_step_small() -> None:
    """A process computes them in turn: 64 images of 128 pixels took 1.9 GiB in two, else 2.5.

    That was without a checkpoint: its two copies have the weights and the momentum.
    """
    inputs, here = Inputs(size=128, resize=128), Machine("this machine", 8 << 30, 1)
    cost = cost_of(TrainOptions(model="resnet50", inputs=inputs), 3, measure=False)
    for ranks, most in ((2, 2.1), (1, 2.8)):
        options = TrainOptions(model="resnet50", inputs=inputs, batch_size=64, virtual_ranks=ranks)
        without_checkpoint = here.step_bytes(cost, options) - 2 * 2 * 4 * cost.parameters
        assert most - 0.4 < without_checkpoint / 2**30 < most


def paper_sized(pile_images: int) -> Estimate:
    return BILLION_SCALE.plan(BillionScale(), 50, 10, pile_images)


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine("this machine", 3 << 30, 1)
    monkeypatch.setattr(machine.Machine, "here", staticmethod(lambda: here))


@pytest.mark.usefixtures("small_machine")
def test_a_training_that_does_not_fit_is_refused_with_the_options_that_do() -> None:
    estimate = with_costs(paper_sized(800), 10, every=False, measure=False)
    with pytest.raises(ProtegeError) as error:
        check_machine(BILLION_SCALE, estimate)
    text = str(error.value)
    assert "teacher: a step of resnet50 on 32 images at once, of 224 pixels, takes about" in text
    assert "teacher.virtual_ranks=32" in text
    assert "the preset small" in text


def too_large(pictures: Path, **changes: Any) -> BillionScale:
    return tiny(pictures, **changes).model_copy(update={"teacher": BillionScale().teacher})


@pytest.mark.usefixtures("small_machine")
def test_labelled_images_in_tars_do_not_hide_what_does_not_fit(
    tmp_path: Path, pictures: Path
) -> None:
    """The classes and the images of a tar are not counted before work; memory needs neither."""
    (tmp_path / "labelled.tar").write_bytes(b"\0" * 10_240)
    options = too_large(pictures, labelled={"source": str(tmp_path)})
    with pytest.raises(
        ProtegeError, match=r"teacher: a step of resnet50 .*teacher\.virtual_ranks="
    ):
        check_before_work(BILLION_SCALE, options)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(options.model_dump(mode="json")))
    planned = CliRunner().invoke(app, ["plan", "billion-scale", "--config", str(config)])
    assert "teacher: a step of resnet50" in str(planned.exception)


@pytest.mark.usefixtures("small_machine")
def test_what_does_not_fit_runs_where_somebody_says_so(tmp_path: Path, pictures: Path) -> None:
    """By an option, which the command line, the form and Python have alike."""
    options = too_large(pictures)
    with pytest.raises(ProtegeError, match=r"approval\.too_large=go_on runs it as it is"):
        check_before_work(BILLION_SCALE, options)
    approval = options.approval.model_copy(update={"too_large": "go_on"})
    check_before_work(BILLION_SCALE, options.model_copy(update={"approval": approval}))


@pytest.mark.parametrize(
    ("role", "length", "batch", "size", "model"),
    [
        ("supervised", "baseline", "baseline", "student", "student"),
        ("baseline", "fine_tune", "fine_tune", "student", "student"),
        ("pretrained", "student", "student", "student", "student"),
    ],
)
def test_a_refused_training_names_the_options_that_it_has(
    role: str, length: str, batch: str, size: str, model: str
) -> None:
    named = {
        option: BILLION_SCALE.option_of(role, option)
        for option in ("length", "batch_size", "inputs.size", "model")
    }
    assert named == {
        "length": f"{length}.length",
        "batch_size": f"{batch}.batch_size",
        "inputs.size": f"{size}.inputs.size",
        "model": f"{model}.model",
    }
    default = BillionScale()
    for name in named.values():
        value = default
        for step in name.split("."):
            value = getattr(value, step)


def test_a_training_that_is_too_long_names_its_own_length() -> None:
    estimate = paper_sized(800)
    works = tuple(
        replace(work, cost=COST, seconds=10**6 if work.role == "supervised" else 1)
        for work in estimate.works
    )
    with pytest.raises(ProtegeError, match=r"shorten baseline\.length, take a smaller student\.m"):
        check_machine(BILLION_SCALE, replace(estimate, works=works))
    assert BILLION_SCALE.label_of("supervised") == "baseline before fine-tuning (baseline)"


def test_the_small_preset_is_surely_small() -> None:
    estimate = BILLION_SCALE.plan(presets.small(), 50, 10, 800)
    for work in estimate.works:
        assert work.training is None or is_costless(work.training, work.units)


def test_lessons_are_at_most_what_the_pile_holds_and_doubts_are_said() -> None:
    estimate = paper_sized(800)
    (choice,) = [work for work in estimate.works if work.stage == "topk"]
    assert choice.units == 8_000
    assert any("the pile has only 800 images" in doubt for doubt in estimate.doubts)
    assert any("teacher: 18 steps from random weights" in doubt for doubt in estimate.doubts)


def test_few_labels_for_a_student_that_knows_what_its_teacher_knows_are_doubtful() -> None:
    photos = presets.photos()
    from_nothing = photos.student.model_copy(update={"start": Start()})
    apart = photos.model_copy(update={"student": from_nothing})
    said = [
        [
            doubt
            for doubt in BILLION_SCALE.plan(options, labels, 10, 3_000).doubts
            if "gain" in doubt
        ]
        for options, labels in ((photos, 100), (photos, 1_000), (apart, 100))
    ]
    assert [len(doubts) for doubts in said] == [1, 0, 0]
    assert said[0][0].startswith("teacher and student start from the same weights")


def test_yaml_has_the_help_and_the_bounds_of_every_option() -> None:
    text = options_yaml(BillionScale())
    assert yaml.safe_load(text) == BillionScale().model_dump(mode="json")
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index("batch_size: 256")
    assert lines[at - 1] == "# Images in a step, summed over all processes. [>= 1 and <= 1,000,000]"
    assert "[one of: decode, header]" in text
    for number, line in enumerate(lines):
        if line and not line.startswith("#") and line.split(":")[0] != "amount":
            assert lines[number - 1].startswith("#"), line


def test_models_and_recipes_are_listed() -> None:
    text = CliRunner().invoke(app, ["models"]).output
    [line] = [line for line in text.splitlines() if line.startswith("resnet50 ")]
    assert "25.56 M" in line
    assert "224 px" in line
    assert "--preset small" in CliRunner().invoke(app, ["recipes"]).output
