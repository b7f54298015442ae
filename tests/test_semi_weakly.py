"""semi-weakly: the whole recipe, what its options refuse, and what the plan says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.campaign.check import check
from flows.campaign.find import campaign_key, find_campaign, sources_of
from flows.campaign.run import Run
from flows.campaign.survey import Sources
from flows.demo.digits import write_digits
from flows.demo.tags import NAMES, write_tags
from flows.recipes import SEMI_WEAKLY
from flows.semi_weakly.options import SemiWeakly
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.campaigns import Campaign
from tasks.contract import Output
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.tags import TagOptions
from tasks.train.options import Start
from tests.builders.semi import tiny_semi
from tests.builders.tags import tag_table

MODELS = ["teacher", "baseline", "pretrained", "student", "weakly"]

Whole = tuple[Campaign, dict[str, Output], dict[str, Any]]


def run_campaign(root: Store, options: SemiWeakly) -> Whole:
    campaign = find_campaign(root, SEMI_WEAKLY.name, options, sources_of(options))
    run = Run(root, Inline(), campaign=campaign)
    models, result = SEMI_WEAKLY.run(run, options)
    return run.campaign, dict(models), result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Whole:
    return run_campaign(open_store(str(tmp_path_factory.mktemp("semi"))), tiny_semi(pictures))


def test_campaign_ends_with_figures_a_report_and_every_role(whole: Whole) -> None:
    campaign, models, result = whole
    assert campaign.finished
    assert list(models) == MODELS
    expected = {role.name for role in SEMI_WEAKLY.roles if role.always}
    assert {*expected, "tag_student", "weakly"} <= set(campaign.outputs)
    assert {f"{model}_top1" for model in MODELS} <= set(result)
    page = Path(result["report"]).read_text()
    assert "have 4 different tags, 1 of them without a meaning among these classes" in page
    assert "learned 3 classes from the tags of 48 of 60 images" in page
    assert "Teacher on the tags" in page


def test_teacher_goes_from_the_classes_of_tags_to_those_of_the_labels(whole: Whole) -> None:
    outputs = whole[0].outputs
    assert outputs["tag_teacher"].classes == ["cold", "fresh", "warm"]
    assert outputs["teacher"].classes == ["blue", "green", "red"]
    inputs = {
        role: {link["fingerprint"] for link in outputs[role].body["inputs"].values()}
        for role in ("tag_teacher", "teacher", "score", "topk", "tag_student", "weakly")
    }
    assert inputs["tag_teacher"] == inputs["tag_student"] == {outputs["tag_lessons"].fingerprint}
    assert outputs["tag_teacher"].fingerprint in inputs["teacher"]
    assert outputs["teacher"].fingerprint in inputs["score"]
    assert outputs["tag_student"].fingerprint in inputs["weakly"]


def test_tags_are_ignored_once_the_teacher_has_learned_them(whole: Whole) -> None:
    outputs = whole[0].outputs
    ranked = {node.stage for node in outputs["gather"].lineage()}
    assert {"tags", "topk"} <= ranked, "the teacher learned them"
    assert outputs["topk"].options["mode"] == "per_class"
    assert outputs["gather"].classes == ["blue", "green", "red"]


def test_network_of_tags_and_labels_may_be_left_out(tmp_path: Path, pictures: Path) -> None:
    options = tiny_semi(pictures, weakly={"length": "0 steps"})
    campaign, models, _ = run_campaign(open_store(str(tmp_path)), options)
    assert campaign.finished
    assert "weakly" not in models
    estimate = SEMI_WEAKLY.plan(options, 12, 3, 60)
    assert not {"tag_student", "weakly"} & {work.role for work in estimate.works}


@pytest.mark.parametrize(
    ("section", "changes", "sentence"),
    [
        ("tag_teacher", {"length": Length(amount=0, unit="steps")}, r"tag_teacher\.length is 0"),
        ("teacher", {"length": Length(amount=0, unit="steps")}, r"teacher\.length is 0"),
        ("topk", {"top_p": 20}, r"topk\.top_p \(20\) must be at most score\.top_p"),
        ("labelled", {"labelled": False}, r"labelled\.labelled must be true"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    section: str, changes: dict[str, Any], sentence: str
) -> None:
    options = SemiWeakly()
    changed = getattr(options, section).model_copy(update=changes)
    with pytest.raises(ValidationError, match=sentence):
        SemiWeakly.model_validate({**dict(options), section: changed})


def test_table_that_is_not_there_is_said_before_any_work(pictures: Path) -> None:
    options = tiny_semi(pictures, tags=TagOptions(table="nowhere.csv"))
    with pytest.raises(ProtegeError, match=r"tags\.table: nowhere\.csv: there is no such file"):
        check(SEMI_WEAKLY, Sources(options))


def test_tags_that_can_teach_nothing_are_said_before_any_work(
    tmp_path: Path, pictures: Path
) -> None:
    table = tag_table(tmp_path, {"sky": ["colour"], "brick": ["colour"]})
    with pytest.raises(ProtegeError, match=r"tags\.table: all tags mean 'colour'"):
        check(SEMI_WEAKLY, Sources(tiny_semi(pictures, tags=TagOptions(table=table))))
    untagged = ShardOptions(source=str(pictures / "pile"))
    with pytest.raises(ProtegeError, match=r"pile\.source: none of its 60 images has a tag"):
        check(SEMI_WEAKLY, Sources(tiny_semi(pictures, pile=untagged)))


def test_another_table_is_another_campaign(tmp_path: Path, pictures: Path) -> None:
    keys = []
    for name in ("cold", "chilly"):
        table = tag_table(tmp_path, {"sky": [name], "brick": ["warm"]})
        keys.append(campaign_key(tiny_semi(pictures, tags=TagOptions(table=table))))
    assert keys[0] != keys[1]


def test_given_weights_get_a_head_for_the_tags() -> None:
    given = Start(weights="somewhere.safetensors")
    student = SemiWeakly().student.model_copy(update={"start": given})
    options = SemiWeakly.model_validate({**dict(SemiWeakly()), "student": student})
    assert options.tag_student.start.head == "new"
    teacher = SemiWeakly().tag_teacher.model_copy(update={"start": given})
    with pytest.raises(ValidationError, match=r"set tag_teacher\.start\.head=new"):
        SemiWeakly.model_validate({**dict(SemiWeakly()), "tag_teacher": teacher})


def test_table_is_named_by_an_absolute_path() -> None:
    options = SemiWeakly(tags=TagOptions(table="tags.csv")).resolved()
    assert options.tags.table == str(Path("tags.csv").absolute())
    assert options.ranking.approval.before == "nothing"


def test_plan_doubts_a_short_training_on_tags_and_not_the_teacher_that_goes_on() -> None:
    options = SEMI_WEAKLY.preset("small")
    assert isinstance(options, SemiWeakly)
    pile = ShardOptions(source="pile")
    short = options.tag_teacher.model_copy(update={"length": Length(amount=50, unit="steps")})
    doubts = SEMI_WEAKLY.plan(
        options.model_copy(update={"tag_teacher": short, "pile": pile}), 100, 10, 5_000
    ).doubts
    assert [doubt for doubt in doubts if "50 steps from random weights" in doubt]
    assert not [doubt for doubt in doubts if doubt.startswith("teacher:")]
    epochs = options.tag_teacher.model_copy(update={"length": Length(amount=1, unit="epochs")})
    uncounted = SEMI_WEAKLY.plan(options.model_copy(update={"tag_teacher": epochs}), 100, 10)
    assert not uncounted.doubts


def test_preset_of_the_paper_has_its_batch_and_its_choice() -> None:
    works = {
        work.role: work
        for work in SEMI_WEAKLY.plan(
            SEMI_WEAKLY.preset("imagenet-tags"), 1_281_167, 1_000, 940_000_000
        ).works
    }
    teacher = works["tag_teacher"].training
    assert teacher is not None
    assert (teacher.batch_size, teacher.num_virtual_ranks) == (8_064, 336)
    assert works["topk"].units == 64_000_000


def test_words_beside_the_demos_digits_are_the_same_for_a_seed(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        folder = tmp_path / name
        write_digits(folder, 0)
        write_tags(folder, 0)
        files = ("pile-tagged.csv", "tags.csv", "pile-tagged-truth.csv")
        texts.append([(folder / file).read_text() for file in files])
    assert texts[0] == texts[1]
    tagged, table, truth = (text.splitlines()[1:] for text in texts[0])
    assert len(tagged) == len(truth) == 11_950
    assert len(table) == sum(map(len, NAMES.values()))
    names = {name for words in NAMES.values() for name in words}
    named = [line for line in tagged if names & set(line.partition(",")[2].strip('"').split(", "))]
    assert 0.2 < len(named) / len(tagged) < 0.35
