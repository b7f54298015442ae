"""Trainings: the options of a small one, with everything that is random in it."""

from tasks.options import Length
from tasks.train import TrainOptions
from tasks.train.options import Augment, Inputs, LearningRate, TrainSpeed
from tests.builders.pictures import COLOURS

CLASSES = tuple(COLOURS)
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
