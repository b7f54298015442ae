"""noisy-student: generations, how they stop and go on, and what a student learns from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from flows.campaign.find import find_campaign, sections_of, sources_of
from flows.campaign.run import Run
from flows.campaign.summary import _settings, story_of
from flows.noisy_student import generation, method
from flows.noisy_student.generation import Generation, chooses_worse
from flows.noisy_student.options import FixResOptions, GenerationsOptions, NoisyStudent
from flows.recipes import NOISY_STUDENT
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store, open_store
from tasks.agreement import CommitteeOptions
from tasks.campaigns import Campaign
from tasks.contract import Output
from tasks.evaluate import Choice
from tasks.gather import GatherOptions
from tasks.inference.weights import load_network
from tasks.options import Length
from tasks.report import ReportOptions
from tasks.report.data import ReportData
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import JointOptions
from tests.builders.noisy import tiny_noisy


def run_campaign(root: Store, options: NoisyStudent) -> tuple[Campaign, dict[str, Any]]:
    campaign = find_campaign(root, NOISY_STUDENT.name, options, sources_of(options))
    run = Run(root, Inline(), campaign=campaign)
    _, result = NOISY_STUDENT.run(run, options)
    return run.campaign, result


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("noisy")))


@pytest.fixture(scope="module")
def whole(root: Store, pictures: Path) -> tuple[Campaign, dict[str, Any]]:
    return run_campaign(root, tiny_noisy(pictures))


def made_from(output: Output) -> set[str]:
    return {link["fingerprint"] for link in output.body["inputs"].values()}


def test_campaign_ends_with_figures_and_a_report_of_every_generation(
    whole: tuple[Campaign, dict[str, Any]],
) -> None:
    campaign, result = whole
    assert campaign.finished
    models = ["baseline", "teacher", "student_1", "student_2", "student"]
    assert made_from(campaign.outputs["baseline"]) == {
        campaign.outputs[role].fingerprint for role in ("supervised", "labelled_lessons")
    }
    assert [key for key in result if key.endswith("_top1")] == [f"{m}_top1" for m in models]
    page = Path(result["report"]).read_text()
    for words in ("Generations", "Student of generation 1", "Student of generation 2"):
        assert words in page


def test_each_student_learns_labels_and_what_the_one_before_says_of_the_pile(
    whole: tuple[Campaign, dict[str, Any]],
) -> None:
    outputs = whole[0].outputs

    def of(*roles: str) -> set[str]:
        return {outputs[role].fingerprint for role in roles}

    assert made_from(outputs["score_1"]) == of("pile", "teacher")
    assert made_from(outputs["score_2"]) == of("pile", "student_1")
    for number in (1, 2):
        expected = of("labelled_lessons", f"gather_{number}")
        assert made_from(outputs[f"student_{number}"]) == expected
        expected = of("pile", f"topk_{number}", f"score_{number}")
        assert made_from(outputs[f"gather_{number}"]) == expected
        weights = outputs[f"gather_{number}"].table("lessons")["weights"].to_pylist()
        assert all(0 < max(row) < 1 and sum(row) == pytest.approx(1) for row in weights)


def test_last_student_goes_on_at_a_larger_size(whole: tuple[Campaign, dict[str, Any]]) -> None:
    outputs = whole[0].outputs
    assert load_network(outputs["student_2"])[1].inputs.size == 16
    assert load_network(outputs["student"])[1].inputs.size == 24
    assert made_from(outputs["student"]) == {
        outputs["labelled_lessons"].fingerprint,
        outputs["student_2"].fingerprint,
    }


def test_a_generation_more_is_the_same_with_a_larger_number(
    root: Store, pictures: Path, whole: tuple[Campaign, dict[str, Any]]
) -> None:
    more = tiny_noisy(pictures, generations=GenerationsOptions(count=3))
    campaign, _ = run_campaign(root, more)
    before = whole[0].outputs
    for number in (1, 2):
        for stage in ("score", "topk", "gather", "student"):
            role = f"{stage}_{number}"
            assert campaign.outputs[role].fingerprint == before[role].fingerprint
            assert campaign.outputs[role].reused
    assert made_from(campaign.outputs["score_3"]) >= {before["student_2"].fingerprint}


def audited(pictures: Path, **sections: Any) -> NoisyStudent:
    """With two thirds of the labelled images to learn from, and the others to stop by."""
    source = str(pictures / "labelled")
    return tiny_noisy(
        pictures,
        labelled=ShardOptions(source=source, labelled=True, to_percent=60),
        audit=ShardOptions(source=source, labelled=True, from_percent=60),
        **sections,
    )


def test_generation_that_is_worse_is_the_last_and_not_the_result(
    root: Store, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # One step at a rate that throws all weights about leaves nothing of what the teacher knew.
    spoiled = tiny_noisy(pictures).student.model_copy(
        update={"length": Length(amount=1, unit="steps"), "seed": 3}
    )
    options = audited(pictures, student=spoiled, generations=GenerationsOptions(count=3))
    campaign, result = run_campaign(root, options)
    assert result["student_1_top1"] < result["teacher_top1"] == result["student_top1"]
    assert "score_2" not in campaign.outputs
    assert "generation 1 is worse than the one before on the held-out images" in caplog.text
    never = options.model_copy(update={"generations": GenerationsOptions(count=2, stop="never")})
    assert "student_2" in run_campaign(root, never)[0].outputs


def test_generation_that_is_as_good_goes_on(root: Store, pictures: Path) -> None:
    campaign, _ = run_campaign(root, audited(pictures))
    assert {"audit_1", "audit_2", "student_2"} <= set(campaign.outputs)
    measured = campaign.outputs["audit_2"].body["extra"]
    assert measured["datasets"] == ["audit"]
    assert measured["models"] == ["student_1", "student_2"]


@pytest.fixture
def committee(pictures: Path) -> dict[str, Any]:
    """Sections with a committee of two."""
    return {
        "committee": CommitteeOptions(members=2, sample=4, batch_size=8),
        "member": tiny_noisy(pictures).teacher,
    }


def test_committee_is_asked_about_the_choice_of_each_generation(
    root: Store, pictures: Path, committee: dict[str, Any]
) -> None:
    never = GenerationsOptions(count=2, stop="never")
    campaign, result = run_campaign(root, tiny_noisy(pictures, generations=never, **committee))
    outputs = campaign.outputs
    members = {outputs[f"member_{number}"].fingerprint for number in (1, 2)}
    for number in (1, 2):
        chosen = outputs[f"topk_{number}"].fingerprint
        assert made_from(outputs[f"agreement_{number}"]) == {
            outputs["pile"].fingerprint,
            chosen,
            *members,
        }
    assert "estimated precision" in Path(result["report"]).read_text().lower()


@pytest.mark.parametrize(("worse", "result"), [(2, "student_1"), (1, "teacher")])
def test_student_that_chooses_worse_than_its_teacher_is_not_the_result(
    root: Store,
    pictures: Path,
    committee: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    worse: int,
    result: str,
) -> None:
    def is_worse(_agreement: Output | None, before: Generation | None) -> bool:
        return before is not None and before.number == worse

    monkeypatch.setattr(method, "chooses_worse", is_worse)
    generations = GenerationsOptions(count=2 + worse)  # a campaign of its own for each case
    options = tiny_noisy(pictures, generations=generations, **committee)
    campaign, _ = run_campaign(root, options)
    outputs = campaign.outputs
    assert {f"student_{worse}", f"agreement_{worse + 1}"} <= set(outputs)
    assert not {f"gather_{worse + 1}", f"student_{worse + 1}"} & set(outputs)
    assert outputs[result].fingerprint in made_from(outputs["student"])
    if result == "student_1":
        assert outputs["topk_1"].fingerprint in made_from(outputs["evaluate"])
    data = ReportData(ReportOptions(), story_of(root, campaign))
    assert data.choice is not None
    assert data.choice.role == "topk_1", "the last that was measured"


@pytest.mark.parametrize(
    ("old", "new", "is_worse"), [(0.9, 0.5, True), (0.9, 0.88, False), (0.5, 0.9, False)]
)
def test_committee_finds_a_choice_worse_beyond_the_error_of_its_sample(
    monkeypatch: pytest.MonkeyPatch,
    whole: tuple[Campaign, dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    old: float,
    new: float,
    is_worse: bool,
) -> None:
    before, now = (whole[0].outputs[role] for role in ("topk_1", "topk_2"))

    def precision_of(agreement: Output) -> pa.Table:
        share = old if agreement is before else new
        rows = [{"name": "red", "sampled": 50, "unanimous": round(50 * share)}]
        # A class that only one of them has chosen for says nothing about the other.
        rows += [{"name": "blue", "sampled": 0 if agreement is before else 900, "unanimous": 0}]
        return pa.Table.from_pylist(rows)

    monkeypatch.setattr(generation, "read_precision", precision_of)
    choice = Choice(before, before, before)
    last = Generation(1, before, choice, before, None)
    assert chooses_worse(now, last) == is_worse
    assert ("generation 1 is worse" in caplog.text) == is_worse
    assert not chooses_worse(now, None)
    assert not chooses_worse(None, last)


def test_another_network_filters_and_the_teacher_labels(root: Store, pictures: Path) -> None:
    options = tiny_noisy(pictures, generations=GenerationsOptions(count=1, filter_by="filter"))
    other = options.filter.model_copy(update={"seed": 5})
    campaign, _ = run_campaign(root, options.model_copy(update={"filter": other}))
    outputs = campaign.outputs
    assert outputs["filter_score"].fingerprint in made_from(outputs["topk_1"])
    assert outputs["score_1"].fingerprint in made_from(outputs["gather_1"])


def test_hard_pseudo_labels_are_single_classes(root: Store, pictures: Path) -> None:
    options = tiny_noisy(
        pictures,
        generations=GenerationsOptions(count=1),
        gather=GatherOptions(pseudo_labels="hard"),
        fix_res=FixResOptions(length=Length(amount=0, unit="steps")),
    )
    campaign, _ = run_campaign(root, options)
    lessons = campaign.outputs["gather_1"].table("lessons")
    assert lessons["weights"].to_pylist() == [[1.0]] * len(lessons)
    # Without any step, the result is the last student as it is.
    one, same = (load_network(campaign.outputs[role])[0] for role in ("student_1", "student"))
    for name, tensor in one.state_dict().items():
        assert np.array_equal(tensor, same.state_dict()[name])


def test_story_of_a_campaign_that_is_not_finished_is_told_without_a_result(
    root: Store, whole: tuple[Campaign, dict[str, Any]]
) -> None:
    campaign = whole[0]
    roles = list(campaign.outputs)
    begun = {role: campaign.outputs[role] for role in roles[: roles.index("evaluate_1") + 1]}
    story = story_of(root, replace(campaign, outputs=begun))
    assert "student" in story.missing
    assert not story.spread


def test_campaigns_with_and_without_held_out_images_are_no_repetitions(pictures: Path) -> None:
    held_out = audited(pictures).model_dump(mode="json")
    none = {**held_out, "audit": tiny_noisy(pictures).audit.model_dump(mode="json")}
    assert _settings(held_out) != _settings(none)


def test_options_that_contradict_one_another_are_refused() -> None:
    options = dict(NoisyStudent())
    with pytest.raises(ValidationError, match=r"audit\.labelled must be true"):
        NoisyStudent.model_validate({**options, "audit": ShardOptions()})
    unasked = {"generations": {"filter_by": "filter"}, "gather": {"pseudo_labels": "hard"}}
    with pytest.raises(ValidationError, match="no teacher would be asked"):
        NoisyStudent.model_validate({**options, **unasked})
    later = GenerationsOptions(later_from=2, later_ratio=1.001)
    with pytest.raises(ValidationError, match=r"generations\.later_ratio \(1\.001\)"):
        NoisyStudent.model_validate({**options, "generations": later})
    with pytest.raises(ValidationError, match=r"joint\.ratio \(1\.001\)"):
        NoisyStudent.model_validate({**options, "joint": JointOptions(ratio=1.001)})
    with pytest.raises(ValidationError, match=r"must be at most score\.top_p"):
        NoisyStudent.model_validate(
            {**options, "score": ScoreOptions(top_p=2), "topk": TopkOptions(top_p=3)}
        )


def test_paper_preset_has_the_steps_of_the_paper() -> None:
    options = NOISY_STUDENT.preset("imagenet-jft")
    assert isinstance(options, NoisyStudent)
    estimate = NOISY_STUDENT.plan(options, 1_281_167, 1_000, 300_000_000)
    works = {work.role: work for work in estimate.works}
    members = [f"member_{number}" for number in range(1, 6)]
    assert list(works)[:9] == ["teacher", *members, "score_1", "topk_1", "student_1"]
    # 350 epochs are 109,474 steps of 4,096 images, twice as many of 2,048.
    assert works["student_3"].units == pytest.approx(2 * 109_474, abs=2)
    assert options.student.schedule(1_281_167).peak_rate == pytest.approx(0.128)
    assert works["student"].units == pytest.approx(1.5 * 1_281_167 / 2_048, abs=1)
    training = works["student_1"].training
    assert training is not None
    assert training.batch_size == 15 * 2_048
    last = works["student_3"].training
    assert last is not None
    assert last.batch_size == 29 * 2_048, "the ratio of the third generation is 28"
    assert training.num_virtual_ranks == options.student.num_virtual_ranks
    filtered = options.model_copy(
        update={"generations": GenerationsOptions(count=1, filter_by="filter")}
    )
    works = {work.role: work for work in NOISY_STUDENT.plan(filtered, 100, 10, 1_000).works}
    assert list(works)[:3] == ["teacher", "filter", "filter_score"]


def test_plan_says_what_is_doubtful() -> None:
    options = NoisyStudent(committee=CommitteeOptions(members=0))
    doubts = NOISY_STUDENT.plan(options, 1_000, 10, 5_000).doubts
    assert any("topk.k=500 asks for as many as there are" in doubt for doubt in doubts)
    assert any("no generation is stopped" in doubt for doubt in doubts)
    filtered = NoisyStudent(generations=GenerationsOptions(filter_by="filter"))
    doubts = NOISY_STUDENT.plan(filtered, 1_000, 10, 5_000).doubts
    assert any("same images in every generation" in doubt for doubt in doubts)


def groups_of(flow_run_id: Any) -> list[Any]:
    """The flow runs inside that of a campaign."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    inside = FlowRunFilterParentFlowRunId(any_=[flow_run_id])
    with get_client(sync_client=True) as client:
        groups = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=inside))
    return sorted(groups, key=lambda group: group.name)


@pytest.mark.timeout(300)
def test_generation_is_a_group_in_the_ui_and_says_why_it_failed(
    root: Store, pictures: Path
) -> None:
    from flows.engine.flow import recipe_flow

    unsure = tiny_noisy(pictures).topk.model_copy(update={"threshold": 0.99})
    too_hot = tiny_noisy(pictures).teacher.model_copy(update={"label_smoothing": 0.5})
    options = tiny_noisy(pictures, topk=unsure, teacher=too_hot)
    flow: Any = recipe_flow(NOISY_STUDENT)
    state = flow(**sections_of(options), root=root.uri, return_state=True)
    assert state.is_failed()
    assert "lower topk.threshold (now 0.99)" in state.message
    groups = groups_of(state.state_details.flow_run_id)
    assert [(group.name, group.state.is_failed()) for group in groups] == [("generation 1", True)]


@pytest.mark.timeout(300)
def test_retry_in_the_ui_goes_through_generations_that_are_done(
    root: Store,
    pictures: Path,
    whole: tuple[Campaign, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prefect would hand over the result of a flow inside the flow, which it does not have."""
    from prefect import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import AwaitingRetry

    from flows.engine.flow import recipe_flow

    def break_off(*_: Any, **__: Any) -> None:
        raise ProtegeError("the disk is full")

    flow: Any = recipe_flow(NOISY_STUDENT)
    options = tiny_noisy(pictures, report=ReportOptions(images_per_strip=3))
    parameters = {**sections_of(options), "root": root.uri}
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(flow, parameters=parameters)
        with monkeypatch.context() as patched:
            patched.setattr("flows.campaign.run.report", break_off)
            state: Any = run_flow(flow, flow_run, parameters=parameters, return_type="state")
        assert state.is_failed()
        assert "the disk is full" in state.message
        client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
        again = client.read_flow_run(flow_run.id)
        state = run_flow(flow, again, parameters=parameters, return_type="state")
        assert state.is_completed(), state
        assert client.read_flow_run(flow_run.id).run_count == 2
    groups = groups_of(flow_run.id)
    assert {group.name for group in groups} == {"generation 1", "generation 2"}
    assert all(group.state.is_completed() for group in groups)
