"""Retraining: which campaign is repeated with which teacher, and what can decide."""

import itertools
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.billion_scale.options import BillionScale
from flows.campaign.find import find_campaign, sources_of
from flows.campaign.run import Run
from flows.recipes import BILLION_SCALE
from flows.retrain import champion
from flows.retrain.hold_out import PromotionOptions, compare, held_out_of, shard_hold_out
from flows.retrain.line import Line, find_line, options_again
from flows.retrain.news import count_new_files
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import LocalStore, Store, open_store
from tasks.campaigns import Campaign, campaigns, save
from tasks.contract import Output
from tasks.shard.sources import percent_of
from tests.builders.campaign import tiny
from tests.builders.pictures import write_folder, write_sources

FEW = PromotionOptions(min_images=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Output]:
    """Sources beside a root with a model of 80 percent of the labelled images."""
    folder = tmp_path_factory.mktemp("retrain")
    write_sources(folder, seed=5, labelled=20, pile=2, test=2)
    run = Run(open_store(str(folder / "root")), Inline())
    options = held_back(folder)
    images = run.shard(options=options.labelled)
    return folder, run.train(images, options.teacher)


@pytest.fixture
def place(made: tuple[Path, Output], tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def root(place: Path) -> Store:
    return open_store(str(place / "root"))


@pytest.fixture
def run(root: Store) -> Run:
    return Run(root, Inline())


@pytest.fixture
def model(made: tuple[Path, Output], root: Store) -> Output:
    """The model in the copy."""
    return replace(made[1], uri=f"{root.uri}/train/{made[1].fingerprint}")


def held_back(place: Path, **changes: dict[str, Any]) -> BillionScale:
    """A campaign that holds a fifth of its labelled images out."""
    return tiny(place, **{"labelled": {"to_percent": 80.0}, **changes})


def finish(
    root: Store, options: BillionScale, model: Output, *, day: int = 1, repeats: str = ""
) -> Campaign:
    """A campaign of these options that has come to its end with this model."""
    begun = find_campaign(root, BILLION_SCALE.name, options, sources_of(options), repeats)
    outputs = {"teacher": model, "student": model}
    done = replace(begun, outputs=outputs, pinned=True, finished_at=f"2026-01-{day:02d}T00:00:00Z")
    save(root, done)
    return done


def line_of(root: Store, campaign: str = "", source: str = "") -> Line:
    line = find_line(root, campaign, "main", source)
    assert line is not None
    return line


def again(run: Run, teacher: str, campaign: str = "") -> Any:
    return options_again(line_of(run.store, campaign), FEW, teacher, run)


def add_labels(place: Path, classes: int = 3) -> None:
    """More labelled images of each class; of the last one, which is new, when there are four."""
    rng = np.random.default_rng(9)
    write_folder(place / "labelled", rng, per_class=20, labelled=True, prefix="more")
    if classes > 3:
        shutil.copytree(place / "labelled" / "red", place / "labelled" / "violet")


# ------------------------------------------------------------------------------------ the teacher


def test_teacher_is_kept_for_new_labels_and_is_the_same_ever_after(
    place: Path, run: Run, root: Store, model: Output
) -> None:
    first = finish(root, held_back(place), model)
    assert again(run, "keep").teacher == held_back(place).teacher, "the same labels: found again"
    add_labels(place)
    kept = again(run, "keep")
    assert kept.teacher.start.weights == f"{model.uri}/weights.safetensors"
    finish(root, kept, model, day=2, repeats=first.id)
    assert again(run, "keep") == kept, "or its scores would be made again each time"


@pytest.mark.parametrize("named", [True, False])
def test_teacher_that_was_kept_can_be_trained_again(
    place: Path, run: Run, root: Store, model: Output, named: bool
) -> None:
    first = finish(root, held_back(place), model)
    add_labels(place)
    second = finish(root, again(run, "keep"), model, day=2, repeats=first.id)
    trained = again(run, "train", second.id if named else "")
    assert trained.teacher == held_back(place).teacher
    assert trained.teacher.length.amount > 0


def test_new_class_implies_a_new_teacher_and_says_so(
    place: Path, run: Run, root: Store, model: Output, caplog: pytest.LogCaptureFixture
) -> None:
    finish(root, held_back(place), model)
    add_labels(place, classes=4)
    with caplog.at_level(logging.WARNING):
        assert again(run, "keep").teacher == held_back(place).teacher
    assert "the teacher is trained again: class violet is new" in caplog.text


def test_teacher_that_was_kept_is_found_in_a_root_that_was_moved(
    place: Path, run: Run, root: Store, model: Output, tmp_path: Path
) -> None:
    first = finish(root, held_back(place), model)
    add_labels(place)
    finish(root, again(run, "keep"), model, day=2, repeats=first.id)
    shutil.move(str(place / "root"), str(place / "moved"))
    moved = LocalStore(str(place / "moved"))
    kept = again(Run(moved, Inline()), "keep")
    assert moved.exists(kept.teacher.start.weights.removeprefix(f"{moved.uri}/"))


def test_teacher_that_has_seen_the_images_held_out_is_not_kept(
    place: Path, run: Run, root: Store, model: Output
) -> None:
    finish(root, tiny(place), model)
    add_labels(place)
    options = again(run, "keep")
    assert options.teacher == tiny(place).teacher
    assert options.labelled.to_percent == 90


def test_retraining_waits_for_nobody(place: Path, run: Run, root: Store, model: Output) -> None:
    finish(root, held_back(place, approval={"before": "score"}), model)
    assert again(run, "train").approval.before == "nothing"


# --------------------------------------------------------------------------------------- the line


def test_line_is_that_of_the_champion_and_not_the_newest_one(
    place: Path, root: Store, model: Output
) -> None:
    first = finish(root, held_back(place), model)
    experiment = finish(root, held_back(place, topk={"k": 5}), model, day=9)
    assert line_of(root).first == experiment, "without a champion, the newest"
    champion.promote(root, "main", first.id)
    assert line_of(root).first == first
    repeated = finish(root, held_back(place, score={"top_p": 4}), model, day=3, repeats=first.id)
    assert [found.id for found in line_of(root).finished] == [repeated.id, first.id]
    assert line_of(root, campaign=repeated.id).first == first
    assert line_of(root, campaign=experiment.id).first == experiment
    with pytest.raises(ProtegeError, match=f"there are: .*{first.id}"):
        find_line(root, "nothing", "main", "")


@pytest.mark.parametrize(
    ("source", "is_read"),
    [("pile", True), ("pile/", True), ("pile/day=1", True), ("", True), ("piles", False)],
)
def test_news_of_a_part_of_a_source_are_news_of_it(
    place: Path, root: Store, model: Output, source: str, is_read: bool
) -> None:
    finish(root, held_back(place), model)
    assert (find_line(root, "", "main", str(place / source)) is not None) == is_read


def test_news_are_the_files_that_were_not_pinned_before(
    place: Path, root: Store, model: Output
) -> None:
    first = finish(root, held_back(place), model)
    assert count_new_files(root, first, first) == 0
    write_folder(place / "pile", np.random.default_rng(9), per_class=3, labelled=False)
    write_folder(place / "test", np.random.default_rng(9), per_class=1, labelled=True)
    options = held_back(place)
    now = find_campaign(root, BILLION_SCALE.name, options, sources_of(options))
    assert count_new_files(root, first, now) == 9 + 3


def test_too_few_news_are_skipped_and_nothing_is_trained(
    place: Path, root: Store, model: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.retrain.flow import retrain

    monkeypatch.setenv("PROTEGE_EXECUTOR", "inline")
    first = finish(root, held_back(place), model)
    write_folder(place / "pile", np.random.default_rng(9), per_class=1, labelled=False)
    state: Any = retrain(min_new_files=4, root=root.uri, return_state=True)
    assert state.is_completed()
    assert state.message == "Skipped: 3 files are new in the sources, and min_new_files is 4"
    (waiting,) = [campaign for campaign in campaigns(root) if campaign.id != first.id]
    assert (waiting.pinned, dict(waiting.outputs)) == (False, {})


def test_enough_news_are_not_skipped(
    place: Path, root: Store, model: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on to the next check, which images that are too few to decide do not pass."""
    from flows.retrain.flow import retrain

    monkeypatch.setenv("PROTEGE_EXECUTOR", "inline")
    finish(root, held_back(place), model)
    write_folder(place / "pile", np.random.default_rng(9), per_class=1, labelled=False)
    cannot_decide = PromotionOptions(min_images=1_000)
    with pytest.raises(ProtegeError, match=r"promotion\.min_images is 1000"):
        retrain(min_new_files=3, promotion=cannot_decide, root=root.uri)


# ----------------------------------------------------------------------------------- the hold-out


def test_champion_by_hand_is_compared_ever_after(
    place: Path, run: Run, root: Store, model: Output
) -> None:
    first = finish(root, held_back(place), model)
    entry = champion.promote(root, "main", first.id)
    add_labels(place)
    options = again(run, "keep")
    held_out = shard_hold_out(run, BILLION_SCALE, options, FEW)
    found = compare(run, BILLION_SCALE, options, held_out, model, entry)
    assert (found.images, found.gain, found.why_not) == (held_out.kept, 0.0, "")


def test_what_cannot_be_compared_says_why(
    place: Path, run: Run, root: Store, model: Output
) -> None:
    options, copied = held_back(place), place / "elsewhere"
    shutil.copytree(place / "labelled", copied)
    seen, elsewhere = (
        tiny(place, topk={"k": 5}),
        tiny(place, labelled={"source": str(copied)}),
    )
    entries = [finish(root, other, model) for other in (seen, elsewhere)]
    held_out = shard_hold_out(run, BILLION_SCALE, options, FEW)

    def why_not(campaign: str) -> str:
        entry = champion.promote(root, "main", campaign)
        return compare(run, BILLION_SCALE, options, held_out, model, entry).why_not

    assert "from 0 to 100 percent, and those in the slice from 80" in why_not(entries[0].id)
    assert "it has learned from other labelled images" in why_not(entries[1].id)
    shutil.rmtree(model.uri)
    assert f"no longer at {model.uri}" in why_not(entries[0].id)


def test_hold_out_that_cannot_decide_is_refused_before_the_training(place: Path, run: Run) -> None:
    options = held_back(place)
    count = run.shard(options=held_out_of(BILLION_SCALE, options)).kept
    enough = PromotionOptions(min_images=count)
    assert shard_hold_out(run, BILLION_SCALE, options, enough).kept == count
    with pytest.raises(ProtegeError, match=r"promotion.min_images is .*hold_out_percent"):
        shard_hold_out(run, BILLION_SCALE, options, PromotionOptions(min_images=count + 1))


def test_class_that_is_held_out_as_a_whole_is_refused_before_the_training(
    place: Path, run: Run
) -> None:
    names = (f"{number}.png" for number in itertools.count())
    late = (name for name in names if percent_of(f"violet/{name}") >= 80)
    (place / "labelled" / "violet").mkdir()
    for picture in sorted((place / "labelled" / "red").iterdir())[:3]:
        shutil.copy(picture, place / "labelled" / "violet" / next(late))
    with pytest.raises(ProtegeError, match="are held out, so that nothing learns them: violet"):
        shard_hold_out(run, BILLION_SCALE, held_back(place), FEW)
