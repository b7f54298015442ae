"""Options of one training job: the network, the length and the learning rate."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from models.precision import Precision
from models.registry import check_name
from models.schedule import Schedule, scaled_rate
from tasks.images import Inputs
from tasks.options import Length, Options

LABELLED = "labelled"  # as checkpoint_classes: those of the labelled images, sorted
# Smaller shares make batch norm noisy, larger ones leave less to share out among processes.
IMAGES_PER_VIRTUAL_RANK = 32
MAX_VIRTUAL_RANKS = 4096


class Augment(Options):
    """Random changes to each training image; 0 switches a change off."""

    crop_min_area: float = Field(0.08, ge=0.01, le=1)
    """Random resized crops keep at least this share of the area; 1 is no random crop."""
    flip: bool = True
    """Mirror half of the images."""
    rotate_degrees: float = Field(0, ge=0, le=180)
    """Rotate by up to this angle, in both directions."""
    translate: float = Field(0, ge=0, le=0.9)
    """Shift by up to this share of the side, in every direction."""
    scale: float = Field(0, ge=0, le=0.9)
    """Shrink or enlarge by up to this share of the size."""
    shear: float = Field(0, ge=0, le=1)
    """Shear by up to this tangent of the angle."""
    elastic: float = Field(0, ge=0, le=1)
    """Elastic deformation: standard deviation of a smooth random shift, as a share of the side."""
    erase: float = Field(0, ge=0, le=0.9)
    """Fill a random square with the mean colour; its side is up to this share of the image's."""
    mixup: float = Field(0, ge=0, le=10)
    """Mix pairs of images and their targets, in proportions from Beta(mixup, mixup)."""


class LearningRate(Options):
    """The schedule of the learning rate."""

    base: float = Field(0.1, ge=1e-7, le=100)
    """Peak for a batch of 256; scaled in proportion to the batch size."""
    warmup: Length = Length(amount=0, unit="epochs")
    """Length of the linear warm-up to the peak."""
    warmup_start: float = Field(0, ge=0, le=100)
    """Learning rate at the start of the warm-up; not scaled."""
    schedule: Literal["cosine", "step"] = "cosine"
    """Decrease along a cosine to 0, or in equally spaced steps."""
    num_steps_down: int = Field(13, ge=0, le=100)
    """Number of decreases, with schedule = step."""
    gamma: float = Field(0.5, ge=0.001, le=0.999)
    """Factor of each decrease, with schedule = step."""


def check_warmup(length: Length, rate: LearningRate) -> None:
    """Raise ValueError for a warm-up that surely does not end before the training does.

    Lengths in different units are compared when the number of images is known.
    """
    if rate.warmup.unit == length.unit and rate.warmup.amount > length.amount:
        raise ValueError(
            f"learning_rate.warmup ({rate.warmup}) must not be longer than length ({length}), or "
            "the peak of the rate is never reached"
        )


class TrainSpeed(Options):
    """What changes the speed of a training, not its result."""

    checkpoint_seconds: float = Field(300, ge=0, le=86_400)
    """Time between checkpoints; an interrupted training resumes from the last one."""
    keep_checkpoints: int = Field(2, ge=1, le=1000)
    """Newest checkpoints that are kept while it runs; older ones are deleted."""
    threads: int = Field(0, ge=0, le=1024)
    """Arithmetic threads of each process; 0 divides the cores. For small networks, 1 is fastest."""
    decode_threads: int = Field(4, ge=1, le=256)
    """Threads that read and decode images, in each process."""
    cache_gib: float = Field(1, ge=0, le=4096)
    """Memory for decoded images, which are cached if all fit and there are no random crops."""


class Training(Options):
    """How a network is trained. Without a network of its own, it continues another training."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"speed"})

    length: Length = Length(amount=90, unit="epochs")
    """How long to train."""
    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Images in a step, summed over all processes."""
    learning_rate: LearningRate = LearningRate()
    """The schedule of the learning rate, from the first step to the last."""
    momentum: float = Field(0.9, ge=0, le=0.9999)
    """Momentum of SGD."""
    nesterov: bool = False
    """Use Nesterov momentum."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """Weight decay of convolutions and linear layers; biases and norms have none."""
    label_smoothing: float = Field(0, ge=0, le=0.9)
    """Share of each target that is spread evenly over all classes."""
    ema_decay: float = Field(0, ge=0, le=0.99999)
    """Decay of the moving average of the weights (EMA), which is the result; 0 is no average."""
    augment: Augment = Augment()
    """Random changes to each training image."""
    virtual_ranks: int = Field(0, ge=0, le=MAX_VIRTUAL_RANKS)
    """Equal shares of a batch for batch norm and mixup, whatever the processes; 0: of 32 images."""
    precision: Precision = "float32"
    """Arithmetic of the network; the last layer and the loss are always in float32."""
    shuffle_shards: int = Field(4, ge=1, le=1000)
    """Parts of the training set that are read into memory and shuffled together."""
    shuffle_mib: int = Field(1024, ge=1, le=1_048_576)
    """Fewer parts are, where they have more MiB of images; each process holds twice as many."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the initial weights, the order of the images and their random changes."""
    speed: TrainSpeed = TrainSpeed()
    """What changes the speed, not the result."""

    @property
    def num_virtual_ranks(self) -> int:
        """Into how many shares a batch is cut."""
        if self.virtual_ranks:
            return self.virtual_ranks
        most = max(1, self.batch_size // IMAGES_PER_VIRTUAL_RANK)
        return max(count for count in range(1, most + 1) if self.batch_size % count == 0)

    @model_validator(mode="after")
    def _batch_is_shared_equally(self) -> "Training":
        if self.virtual_ranks and self.batch_size % self.virtual_ranks:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of virtual_ranks "
                f"({self.virtual_ranks})"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Training":
        check_warmup(self.length, self.learning_rate)
        return self


class TrainOptions(Training):
    """One training job: a network and how it is trained."""

    FIRST: ClassVar[tuple[str, ...]] = ("model", "checkpoint", "checkpoint_classes", "inputs")

    model: str = "resnet50"
    """Network: small_resnet_8, small_resnet_16, small_resnet_32, resnet18, resnet50, timm/..."""
    checkpoint: str = ""
    """Published weights (.safetensors, .pth) to use instead of training; the length is ignored."""
    checkpoint_classes: str = ""
    """Text file with the class of each output of these weights, in lines; or `labelled`: sorted."""
    inputs: Inputs = Inputs()
    """What an image becomes before the network sees it."""

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        return check_name(name)

    def continued(self, training: Training) -> "TrainOptions":
        """The options of a training that continues with this network."""
        shared = {name: getattr(training, name) for name in Training.model_fields}
        return self.model_copy(update={**shared, "checkpoint": "", "checkpoint_classes": ""})

    def total_steps(self, images_per_epoch: int) -> int:
        """The length in steps; 0 when published weights are used as they are."""
        if self.checkpoint:
            return 0
        return self.length.steps(images_per_epoch=images_per_epoch, batch_size=self.batch_size)

    def schedule(self, images_per_epoch: int) -> Schedule:
        """The schedule, with every length in steps and the rate scaled to the batch size."""
        rate = self.learning_rate
        return Schedule(
            total_steps=self.total_steps(images_per_epoch),
            warmup_steps=rate.warmup.steps(
                images_per_epoch=images_per_epoch, batch_size=self.batch_size
            ),
            warmup_start_rate=rate.warmup_start,
            peak_rate=scaled_rate(rate.base, self.batch_size),
            kind=rate.schedule,
            num_steps_down=rate.num_steps_down,
            gamma=rate.gamma,
        )
