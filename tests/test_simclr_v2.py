"""simclr-v2: the whole recipe, what its options refuse, and the steps of its paper."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.campaign.find import find_campaign, sources_of
from flows.campaign.run import Run
from flows.recipes import SIMCLR_V2
from flows.simclr_v2.options import SelfDistillOptions, SimclrV2
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.campaigns import Campaign
from tasks.contract import Output
from tasks.gather import GatherOptions
from tasks.images import Inputs
from tasks.options import Length
from tasks.shard import ShardOptions
from tests.builders.simclr import tiny_simclr

MODELS = ["linear", "teacher", "self_distilled", "student", "baseline"]


def run_campaign(
    root: Store, options: SimclrV2
) -> tuple[Campaign, dict[str, Output], dict[str, Any]]:
    campaign = find_campaign(root, SIMCLR_V2.name, options, sources_of(options))
    run = Run(root, Inline(), campaign=campaign)
    models, result = SIMCLR_V2.run(run, options)
    return run.campaign, dict(models), result


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, pictures: Path
) -> tuple[Campaign, dict[str, Output], dict[str, Any]]:
    root = open_store(str(tmp_path_factory.mktemp("simclr")))
    return run_campaign(root, tiny_simclr(pictures))


def test_campaign_ends_with_figures_a_report_and_every_role(
    whole: tuple[Campaign, dict[str, Output], dict[str, Any]],
) -> None:
    campaign, models, result = whole
    assert campaign.finished
    assert list(models) == MODELS
    assert {role.name for role in SIMCLR_V2.roles} <= set(campaign.outputs)
    assert {f"{model}_top1" for model in MODELS} <= set(result)
    page = Path(result["report"]).read_text()
    assert "Contrastive pre-training, without labels" in page
    assert "Linear head on its features: mean loss" not in page
    assert "image_bytes" not in page
    assert "found the other view of the same image as the nearest among all 16" in page


def test_each_model_is_made_of_the_one_before(
    whole: tuple[Campaign, dict[str, Output], dict[str, Any]],
) -> None:
    outputs = whole[0].outputs
    made_from = {
        role: {link["fingerprint"] for link in outputs[role].body["inputs"].values()}
        for role in ("pretrained", "linear", "teacher", "self_distilled", "student", "baseline")
    }

    def of(*roles: str) -> set[str]:
        return {outputs[role].fingerprint for role in roles}

    assert made_from["pretrained"] == of("pile_lessons")
    assert made_from["linear"] == made_from["teacher"] == of("labelled_lessons", "pretrained")
    assert made_from["self_distilled"] == of("pile_lessons", "teacher")
    assert made_from["student"] == of("pile_lessons", "self_distilled")
    assert made_from["baseline"] == of("labelled_lessons")


def test_linear_head_has_the_features_of_the_pre_trained_network(
    whole: tuple[Campaign, dict[str, Output], dict[str, Any]],
) -> None:
    from tasks.inference.weights import load_network

    outputs = whole[0].outputs
    before = load_network(outputs["pretrained"])[0].state_dict()
    after = load_network(outputs["linear"])[0].state_dict()
    heads = {name for name in before if name.startswith("fc.")}
    assert heads
    assert all(after[name].equal(before[name]) for name in set(before) - heads)
    assert not any(after[name].equal(before[name]) for name in heads)


def test_share_of_the_labels_is_what_everything_supervised_learns_from(
    whole: tuple[Campaign, dict[str, Output], dict[str, Any]],
) -> None:
    outputs = whole[0].outputs
    labels = outputs["labelled_lessons"]
    assert labels.kept == 6
    assert len(labels.table("subset")) == 6
    assert outputs["pile_lessons"].kept == outputs["pile"].kept


def test_another_share_of_the_labels_needs_no_other_pre_training(
    tmp_path: Path, pictures: Path
) -> None:
    root, outputs = open_store(str(tmp_path)), []
    for percent in (50, 100):
        options = tiny_simclr(pictures, gather=GatherOptions(percent_of_class=percent))
        outputs.append(run_campaign(root, options)[0].outputs)
    few, all_labels = outputs
    assert few["pretrained"].fingerprint == all_labels["pretrained"].fingerprint
    assert few["teacher"].fingerprint != all_labels["teacher"].fingerprint


def test_without_a_pile_the_labelled_images_are_looked_at_without_labels(
    tmp_path: Path, pictures: Path
) -> None:
    options = tiny_simclr(
        pictures,
        pile=ShardOptions(),
        self_distillation=SelfDistillOptions(length=Length(amount=0, unit="steps")),
    )
    campaign, models, _ = run_campaign(open_store(str(tmp_path)), options)
    assert "pile" not in campaign.outputs
    assert campaign.outputs["pile_lessons"].kept == campaign.outputs["labelled"].kept
    assert campaign.outputs["pile_lessons"].classes == []
    assert "self_distilled" not in models
    assert campaign.finished


@pytest.mark.parametrize(
    ("percent", "length", "batch_size", "steps"),
    # The steps in the names of the authors' checkpoints, who count a step that is begun.
    [
        (1, "60 epochs", 1_024, 751),
        (10, "30 epochs", 1_024, 3_754),
        (100, "30 epochs", 1_024, 37_535),
    ],
)
def test_fine_tuning_of_the_paper_has_its_steps(
    percent: float, length: str, batch_size: int, steps: int
) -> None:
    paper = SIMCLR_V2.preset("imagenet")
    assert isinstance(paper, SimclrV2)
    fine_tune = paper.fine_tune.model_copy(
        update={"length": Length.model_validate(length), "batch_size": batch_size}
    )
    changed = paper.model_copy(
        update={"gather": GatherOptions(percent_of_class=percent), "fine_tune": fine_tune}
    )
    estimate = SIMCLR_V2.plan(changed, labelled_images=1_281_167, classes=1_000)
    units = {work.role: work.units for work in estimate.works}
    assert units["pretrained"] == 250_228
    assert units["teacher"] in {steps - 1, steps}
    rate = changed.pretrain.continued(fine_tune).schedule(1_281_167).peak_rate
    assert rate == pytest.approx(0.16)
    assert changed.pretrain.schedule(1_281_167).peak_rate == pytest.approx(6.4)


def test_plan_says_what_is_doubtful() -> None:
    options = SIMCLR_V2.preset("small")
    assert isinstance(options, SimclrV2)
    short = options.pretrain.model_copy(
        update={"length": Length(amount=1, unit="epochs"), "batch_size": 64}
    )
    changed = options.model_copy(update={"pretrain": short, "pile": ShardOptions(source="pile")})
    doubts = SIMCLR_V2.plan(changed, 100, 10, pile_images=1_000).doubts
    assert any("16 steps" in doubt for doubt in doubts)
    assert any("batch_size is 64" in doubt for doubt in doubts)
    uncounted = SIMCLR_V2.plan(changed, 100, 10)
    assert not any("steps" in doubt for doubt in uncounted.doubts)
    assert "1 epochs of images that were not counted" in str(uncounted.works[0])


@pytest.mark.parametrize(
    ("section", "changes", "sentence"),
    [
        ("pretrain", {"length": Length(amount=0, unit="steps")}, r"pretrain\.length is 0"),
        ("pretrain", {"model": "resnet50+projection"}, r"must be without \+projection"),
        ("contrast", {"projection_layers": 1}, r"or fine_tune\.start_at=features"),
    ],
)
def test_what_would_fail_after_the_pre_training_is_refused_before_it(
    section: str, changes: dict[str, Any], sentence: str
) -> None:
    options = SimclrV2()
    changed = getattr(options, section).model_copy(update=changes)
    with pytest.raises(ValidationError, match=sentence):
        SimclrV2.model_validate({**dict(options), section: changed})


def test_plan_reckons_with_all_views_in_a_virtual_rank() -> None:
    options = SIMCLR_V2.preset("imagenet")
    work = SIMCLR_V2.plan(options, 1_281_167, 1_000).works[0]
    assert work.training is not None
    assert work.training.batch_size // work.training.num_virtual_ranks == 2 * 128


def test_teacher_and_student_see_pictures_of_one_size() -> None:
    student = SimclrV2().student.model_copy(update={"inputs": Inputs(size=96, resize=96)})
    with pytest.raises(ValidationError, match=r"student.inputs.size \(96\) must be"):
        SimclrV2.model_validate({**dict(SimclrV2()), "student": student})


def test_pre_training_in_several_shares_says_what_to_set(tmp_path: Path, pictures: Path) -> None:
    options = tiny_simclr(pictures)
    shared = options.pretrain.model_copy(update={"virtual_ranks": 2})
    with pytest.raises(ProtegeError, match=r"pretrain.virtual_ranks=1"):
        run_campaign(open_store(str(tmp_path)), options.model_copy(update={"pretrain": shared}))
