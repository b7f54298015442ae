"""Trainings: the options of a small one, with everything that is random in it, and how to stop it.

trainer = Trainer(job(lessons, tmp_path / "a"), ONE)
run_to(trainer, step=5)
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tasks.contract import Output
from tasks.images import Inputs
from tasks.options import Length
from tasks.train import TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.data import Batch
from tasks.train.job import TrainJob
from tasks.train.learner import Measured
from tasks.train.options import LearningRate, TrainSpeed
from tasks.train.trainer import Trainer
from tasks.train.world import World
from tests.builders.pictures import COLOURS

CLASSES = tuple(COLOURS)
ONE = World(0, 1, torch.device("cpu"))
SMALL = TrainOptions(
    model="small_resnet_8",
    length=Length(amount=24, unit="steps"),
    batch_size=8,
    learning_rate=LearningRate(base=0.5),
    ema_decay=0.9,
    label_smoothing=0.1,
    augment=Augment(crop_min_area=1, rotate_degrees=10, elastic=0.02, mixup=0.2),
    inputs=Inputs(size=16, resize=16, pixels="unit"),
    speed=TrainSpeed(checkpoint_seconds=0),
)


def job(lessons: Output, uri: Path, options: TrainOptions = SMALL, attempt: int = 1) -> TrainJob:
    uri.mkdir(parents=True, exist_ok=True)
    return TrainJob(
        uri=str(uri),
        options=options,
        objective="supervised",
        data={"train": lessons},
        classes=CLASSES,
        init=None,
        init_head="keep",
        attempt=attempt,
    )


def run_to(trainer: Trainer, step: int) -> None:
    """Train up to a step, as if the process had been stopped there; it may be called again.

    No step begins before the checkpoint of the one before is written, if there is one.
    """

    class Stopped(Exception): ...

    learner, make_step = trainer.learner, trainer.learner.make_step

    def stop(batches: Sequence[Mapping[str, Batch]], *, wants_stop: bool) -> Measured:
        trainer._saving.wait()
        if learner.step == step:
            raise Stopped
        return make_step(batches, wants_stop=wants_stop)

    with pytest.MonkeyPatch.context() as patch, suppress(Stopped):
        patch.setattr(learner, "make_step", stop)
        trainer.run()
