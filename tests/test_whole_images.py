"""augment.off_at_end: the last steps of a training see images as they are scored."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from flows.campaign.baseline import BaselineOptions
from flows.campaign.small_pictures import steps
from flows.simclr_v2.options import SimclrV2
from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.options import Length
from tasks.train import ContrastiveOptions, JointOptions, TrainOptions, train
from tasks.train.augment_options import Augment
from tasks.train.data import BatchReader, open_samples
from tasks.train.learner import Learner
from tasks.train.trainer import Trainer
from tests.builders.trainings import ONE, SMALL, job, run_to

NUM_CHANGED = 20
CROPS = Augment(crop_min_area=0.3, rotate_degrees=10, mixup=0.2, off_at_end=steps(4))
ENDING = SMALL.model_copy(update={"augment": CROPS})
WHOLE = SMALL.model_copy(update={"augment": Augment(crop_min_area=1, flip=False)})


def test_last_steps_see_whole_images_without_any_change(lessons: Output, tmp_path: Path) -> None:
    changed = Learner(job(lessons, tmp_path / "a", ENDING), ONE)
    whole = Learner(job(lessons, tmp_path / "b", WHOLE), ONE)
    assert changed.total_steps == NUM_CHANGED + 4
    # Back and forth, as a replay and a thread that reads ahead may ask.
    for step in (0, NUM_CHANGED, NUM_CHANGED - 1, NUM_CHANGED + 3):
        seen, expected = changed.kept_rank(step, 0), whole.kept_rank(step, 0)
        assert seen.names == expected.names
        is_whole = step >= NUM_CHANGED
        pixels = seen.batches["train"].images_BHWC, expected.batches["train"].images_BHWC
        assert np.array_equal(*pixels) == is_whole
        images = seen.inputs["train"].images_BCHW, expected.inputs["train"].images_BCHW
        assert torch.equal(*images) == is_whole
        assert bool(seen.inputs["train"].augment.mixup) != is_whole


@pytest.mark.parametrize("step", [NUM_CHANGED - 1, NUM_CHANGED, NUM_CHANGED + 2])
def test_training_goes_on_from_either_side_of_the_boundary(
    step: int, lessons: Output, tmp_path: Path
) -> None:
    straight = Trainer(job(lessons, tmp_path / "a", ENDING), ONE)
    straight.run()
    run_to(Trainer(job(lessons, tmp_path / "b", ENDING), ONE), step)
    resumed = Trainer(job(lessons, tmp_path / "b", ENDING, attempt=2), ONE)
    assert resumed.learner.step == step
    resumed.run()
    weights = resumed.learner.published.state_dict()
    for name, value in straight.learner.published.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_end_is_shorter_than_the_training(root: Store, lessons: Output) -> None:
    end = {"length": steps(24), "augment": Augment(off_at_end=steps(24))}
    for own in ({}, {"own_augment": True}):
        with pytest.raises(ValidationError, match=r"off_at_end \(24 steps\) must be shorter than"):
            (BaselineOptions if own else TrainOptions).model_validate({**end, **own})
    TrainOptions.model_validate({**end, "length": steps(25)})
    TrainOptions.model_validate({**end, "length": steps(0)})
    # In epochs, it is known when the images are.
    epochs = Augment(off_at_end=Length(amount=1_000, unit="epochs"))
    options = SMALL.model_copy(update={"augment": epochs})
    with pytest.raises(ProtegeError, match=r"off_at_end \(1,000 epochs\) is .* steps of"):
        train(root, lessons, options, processes=Processes(count=1, threads=1))


def test_contrast_needs_views_that_differ(root: Store, lessons: Output) -> None:
    with pytest.raises(ProtegeError, match="learns from views that differ: set it to 0"):
        train(
            root,
            lessons,
            ENDING,
            objective=ContrastiveOptions(),
            processes=Processes(count=1, threads=1),
        )


def test_recipe_refuses_contrast_of_views_that_are_alike() -> None:
    with pytest.raises(ValidationError, match=r"pretrain\.augment\.off_at_end leaves views"):
        SimclrV2(pretrain=TrainOptions(augment=CROPS))


def test_both_data_sets_of_a_joint_training_end_on_whole_images(
    lessons: Output, tmp_path: Path
) -> None:
    learners = [
        Learner(
            job(lessons, tmp_path / name, options).model_copy(
                update={
                    "objective": "joint",
                    "objective_options": JointOptions(ratio=2).content(),
                    "data": {"train": lessons, "unlabelled": lessons},
                }
            ),
            ONE,
        )
        for name, options in (("a", ENDING), ("b", WHOLE))
    ]
    for step, is_whole in ((NUM_CHANGED - 1, False), (NUM_CHANGED, True)):
        changed, whole = (learner.kept_rank(step, 0).inputs for learner in learners)
        for role in ("train", "unlabelled"):
            same = torch.equal(changed[role].images_BCHW, whole[role].images_BCHW)
            assert same == is_whole, role


def test_images_that_were_decoded_for_crops_are_forgotten(lessons: Output) -> None:
    samples = open_samples(lessons, lessons.classes)
    options_at = partial(ENDING.at_step, images_per_epoch=sum(samples.part_rows))
    reader = BatchReader(samples, ENDING, batch_size=8, options_at=options_at)
    reader.read(0, 0, 1)
    first = reader._views.decoded
    reader.read(1, 0, 1)
    assert reader._views.decoded is first
    reader.read(NUM_CHANGED, 0, 1)
    assert reader._views.decoded is not first
