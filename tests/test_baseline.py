"""The baseline is trained in its own way: its own length, and never from the student's weights."""

from typing import Any

import pytest
from pydantic import ValidationError

from flows.billion_scale import presets
from flows.billion_scale.options import BillionScale
from flows.campaign.baseline import BaselineOptions
from flows.campaign.options import RecipeOptions
from flows.noisy_student.options import NoisyStudent
from flows.recipes import BILLION_SCALE
from flows.semi_weakly.options import SemiWeakly
from flows.simclr_v2.options import SimclrV2
from tasks.options import Length
from tasks.train import TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import Start

LABELLED = 1_000
STUDENT = TrainOptions(model="small_resnet_8", length=Length(amount=1e9, unit="images"))


def planned_steps(options: BillionScale) -> int:
    """The steps of the baseline before it is fine-tuned, as the plan counts them."""
    (work,) = [
        work
        for work in BILLION_SCALE.plan(options, LABELLED, 10, 100_000).works
        if work.role == "supervised"
    ]
    return work.units


def test_student_that_is_trained_for_long_leaves_the_baseline_its_length() -> None:
    """More steps on few labels make it worse, and the gain would look larger than it is."""
    options = BillionScale(student=STUDENT)
    assert options.baseline_training.length == BaselineOptions().length
    assert planned_steps(options) == 90 * LABELLED // STUDENT.batch_size + 1
    own = BaselineOptions(length=Length(amount=7, unit="steps"))
    assert planned_steps(BillionScale(student=STUDENT, baseline=own)) == 7


def test_baseline_of_the_paper_learns_for_90_epochs_and_not_from_a_billion_images() -> None:
    options = presets.imagenet_yfcc()
    assert options.baseline_training.length == Length(amount=90, unit="epochs")
    images = presets.IMAGENET_IMAGES
    assert options.baseline_training.total_steps(images) == pytest.approx(75_068, abs=2)
    assert options.student.total_steps(images) == 651_042


def test_baseline_starts_as_the_student_does() -> None:
    started = STUDENT.model_copy(update={"start": Start(weights="w.pth", head="new")})
    assert BillionScale(student=started).baseline_training.start == started.start


def test_baseline_beside_a_student_with_given_weights_is_trained_all_the_same() -> None:
    start = Start(weights="w.pth", classes="labelled")
    given = STUDENT.model_copy(update={"start": start, "length": Length()})
    options = BillionScale(student=given)
    assert options.student.total_steps(LABELLED) == 0
    assert planned_steps(options) == planned_steps(BillionScale(student=STUDENT)) > 0
    training = options.baseline_training
    assert training.start == Start()
    assert training.model == given.model


def test_baseline_has_a_batch_of_its_own_where_the_student_counts_labelled_images() -> None:
    student = STUDENT.model_copy(update={"batch_size": 16, "virtual_ranks": 4})
    assert BillionScale(student=student).baseline_training.batch_size == 16
    own = BaselineOptions(batch_size=64)
    assert BillionScale(student=student, baseline=own).baseline_training.batch_size == 64


SECTIONS = (
    (BillionScale, "baseline"),
    (NoisyStudent, "baseline"),
    (SemiWeakly, "baseline"),
    (SemiWeakly, "weakly"),
    (SimclrV2, "baseline"),
)


@pytest.mark.parametrize(("recipe", "section"), SECTIONS)
def test_student_whose_options_do_not_fit_the_baseline_is_refused_before_any_work(
    recipe: type[RecipeOptions], section: str
) -> None:
    def refused(student: dict[str, Any], own: BaselineOptions, message: str) -> None:
        training = TrainOptions(model="small_resnet_8", **student)
        recipe.model_validate({"student": training})
        with pytest.raises(ValidationError, match=f"{section}{message}"):
            recipe.model_validate({"student": training, section: own})

    batch = BaselineOptions(batch_size=66)
    ranks = {"batch_size": 16, "virtual_ranks": 4}
    refused(ranks, batch, r".batch_size \(66\) must be a multiple of student.virtual_ranks \(4\)")
    fewer = BaselineOptions(batch_size=64)
    refused({"streams": 4}, fewer, r".batch_size \(64\) makes 2 virtual ranks, the student has 8")
    refused({"sync_batch_norm": True}, fewer, r".batch_size \(64\) makes 2 virtual ranks")
    # What the student's images see at its end may be all that the baseline's see.
    end = {"length": "2000 steps", "augment": Augment(off_at_end=Length(amount=200))}
    short = BaselineOptions(length=Length(amount=200))
    refused(end, short, f" is augmented as the student is, and .*: set {section}.own_augment=true")
    own = short.model_copy(update={"own_augment": True})
    recipe.model_validate({"student": TrainOptions(**end), section: own})


def test_baseline_is_augmented_as_the_student_is_unless_it_has_its_own() -> None:
    crops = Augment(crop_min_area=0.6, mixup=0.4)
    student = STUDENT.model_copy(update={"augment": crops})
    assert BillionScale(student=student).baseline_training.augment == crops
    own = BaselineOptions(own_augment=True)
    assert BillionScale(student=student, baseline=own).baseline_training.augment == Augment()
    with pytest.raises(ValidationError, match="set own_augment=true"):
        BaselineOptions(augment=crops)
