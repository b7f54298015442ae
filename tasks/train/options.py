"""Options of one training job: the network, the length and the learning rate."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from models.initial import HeadStart
from models.precision import Precision
from models.registry import NETWORKS, ONNX, PROJECTED, check_name
from models.schedule import Kind, Scaling, Schedule, scaled_rate
from tasks.images import Inputs
from tasks.options import CompileChoice, Length, Options
from tasks.train.augment_options import NO_CHANGES, Augment, check_augment

LABELLED = "labelled"  # as start.classes: those of the labelled images, sorted
# Smaller shares make batch norm noisy, larger ones leave less to share out among processes.
IMAGES_PER_VIRTUAL_RANK = 32
MAX_VIRTUAL_RANKS = 4096

OptimizerName = Literal["sgd", "adamw", "lars", "rmsprop"]


class Start(Options):
    """What the network knows before its first step. Teacher, student and baseline start alike."""

    weights: str = ""
    """Weights to start from: a file, a published name, timm/..., a model of ours; empty: random."""
    head: Literal["keep", "new", "linear"] = "keep"
    """Their last layer: kept, new, or fitted to the frozen features, with nothing trained after."""
    classes: str = ""
    """Text file with the class of each output of a kept head, in lines; or `labelled`: sorted."""

    @model_validator(mode="after")
    def _head_is_of_weights(self) -> "Start":
        if self.head != "keep" and not self.weights:
            raise ValueError(f"head={self.head} is what becomes of the head of weights: give them")
        return self


class LearningRate(Options):
    """The schedule of the learning rate."""

    base: float = Field(0.1, ge=1e-7, le=100)
    """Peak for a batch of 256; or, with scaling = sqrt, for a batch of 1."""
    scaling: Scaling = "linear"
    """Multiply the base by batch size / 256, or by the square root of the batch size."""
    warmup: Length = Length(amount=0, unit="epochs")
    """Length of the linear warm-up to the peak."""
    warmup_start: float = Field(0, ge=0, le=100)
    """Learning rate at the start of the warm-up; not scaled."""
    schedule: Kind = "cosine"
    """Decrease along a cosine to 0, in equally spaced steps, or exponentially."""
    num_steps_down: int = Field(13, ge=0, le=100)
    """Number of decreases, with schedule = step."""
    gamma: float = Field(0.5, ge=0.001, le=0.999)
    """Factor of each decrease, with schedule = step or exponential."""
    gamma_every: Length = Length(amount=2.4, unit="epochs")
    """Length between two decreases, with schedule = exponential."""
    layer_decay: float = Field(1, ge=0.01, le=1)
    """Each layer or block learns so many times as fast as the one above it; 1: all alike."""

    @model_validator(mode="after")
    def _decreases_are_apart(self) -> "LearningRate":
        if self.gamma_every.amount == 0:
            raise ValueError("gamma_every must be longer than 0")
        return self


def check_warmup(length: Length, rate: LearningRate) -> None:
    """Raise ValueError for a warm-up that surely does not end before the training does.

    Lengths in different units are compared when the number of images is known.
    """
    if rate.warmup.unit == length.unit and rate.warmup.amount > length.amount:
        raise ValueError(
            f"learning_rate.warmup ({rate.warmup}) must not be longer than length ({length}), or "
            "the peak of the rate is never reached"
        )


class Init(Options):
    """The weights that a new network, or a new head, starts from."""

    zero_last_norm: bool = False
    """Start the last norm of each residual block at 0, so that the blocks start as identities."""
    head: HeadStart = "uniform"
    """Weights of the head: uniform as torch has them, normal with deviation 0.01, or zero."""


class TrainSpeed(Options):
    """What changes the speed of a training, and its result by rounding at most."""

    checkpoint_seconds: float = Field(300, ge=0, le=86_400)
    """Time between checkpoints; an interrupted training resumes from the last one."""
    keep_checkpoints: int = Field(2, ge=1, le=1000)
    """Newest checkpoints that are kept while it runs; older ones are deleted."""
    threads: int = Field(0, ge=0, le=1024)
    """Arithmetic threads of each process; 0 divides the cores. For small networks, 1 is fastest."""
    decode_threads: int = Field(4, ge=1, le=256)
    """Threads that read and decode images, in each process."""
    cache_gib: float = Field(1, ge=0, le=4096)
    """Memory of a process for decoded images of a data set; kept for later epochs if all fit."""
    exact_resume: bool = True
    """On a GPU, resume to the same bits; off: faster convolutions, which may round differently."""
    compile: CompileChoice = "auto"
    """Compile the network, which rounds differently; auto: on a GPU where it is measured to pay."""


class Training(Options):
    """How a network is trained. Without a network of its own, it continues another training."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"speed"})

    length: Length = Length(amount=90, unit="epochs")
    """How long to train."""
    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Images in a step, summed over all processes."""
    learning_rate: LearningRate = LearningRate()
    """The schedule of the learning rate, from the first step to the last."""
    optimizer: OptimizerName = "sgd"
    """What updates the weights; what is no option of it is as in its paper."""
    momentum: float = Field(0.9, ge=0, le=0.9999)
    """Momentum; of AdamW, beta 1."""
    nesterov: bool = False
    """Use Nesterov momentum, with sgd or lars."""
    clip_norm: float = Field(0, ge=0, le=1e6)
    """Scale gradients down to this norm, over all weights and processes; 0 is no limit."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """Weight decay of convolutions and linear layers; biases and norms have none."""
    frozen_layers: int = Field(0, ge=0, le=1_000)
    """The first so many layers or blocks stay as they are, as do the statistics of their norms."""
    label_smoothing: float = Field(0, ge=0, le=0.9)
    """Share of each target that is spread evenly over all classes."""
    ema_decay: float = Field(0, ge=0, le=0.99999)
    """Decay of the moving average of the weights (EMA), which is the result; 0 is no average."""
    augment: Augment = Augment()
    """Random changes to each training image."""
    virtual_ranks: int = Field(0, ge=0, le=MAX_VIRTUAL_RANKS)
    """Equal shares of a batch for batch norm and mixup, whatever the processes; 0: of 32 images."""
    sync_batch_norm: bool = False
    """Batch norm over the whole batch; needs a process for each virtual rank."""
    precision: Precision = "float32"
    """Arithmetic of the network; the last layer and the loss are always in float32."""
    shuffle_shards: int = Field(4, ge=1, le=1000)
    """Parts of the training set that are read into memory and shuffled together."""
    shuffle_mib: int = Field(1024, ge=1, le=1_048_576)
    """Fewer parts are, where they have more MiB of images; each stream holds twice as many."""
    streams: int = Field(1, ge=1, le=MAX_VIRTUAL_RANKS)
    """Streams of parts, each read by one process alone: set it to the processes of a training."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the initial weights, the order of the images and their random changes."""
    speed: TrainSpeed = TrainSpeed()
    """What changes the speed, and the result by rounding at most."""

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
    def _streams_are_shared_equally(self) -> "Training":
        if self.num_virtual_ranks % self.streams:
            raise ValueError(
                f"virtual_ranks ({self.num_virtual_ranks}) must be a multiple of streams "
                f"({self.streams}), so that each stream feeds as many"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Training":
        check_warmup(self.length, self.learning_rate)
        return self

    @model_validator(mode="after")
    def _changes_are_made(self) -> "Training":
        check_augment(self.length, self.augment)
        return self


class TrainOptions(Training):
    """One training job: a network and how it is trained."""

    FIRST: ClassVar[tuple[str, ...]] = ("model", "start", "inputs")

    model: str = "resnet50"
    """Network, for example resnet50 or timm/<name>; `protege models` lists them."""
    start: Start = Start()
    """What the network knows before its first step; with a length of 0, that is the result."""
    inputs: Inputs = Inputs()
    """What an image becomes before the network sees it."""
    init: Init = Init()
    """How new layers begin; those of another model, or of published weights, stay as they are."""

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        record = NETWORKS.get(check_name(name).removesuffix(PROJECTED))
        if record is not None and record.inputs.frames:
            raise ValueError(f"{name} takes videos, and a source has images: take another model")
        return name

    def continued(
        self, training: Training, *, from_projection: bool = False, size: int = 0
    ) -> "TrainOptions":
        """The options of a training that continues with this network.

        `from_projection` adds the first layer of the projection head that it was trained with;
        `size` is another side of its images in pixels, cut out as before.
        """
        shared = {name: getattr(training, name) for name in Training.model_fields}
        model = self.model + PROJECTED if from_projection else self.model
        inputs = self.inputs
        if size:
            resize = round(inputs.resize * size / inputs.size)
            inputs = inputs.model_copy(update={"size": size, "resize": resize})
        own = {"start": Start(), "model": model, "inputs": inputs}
        return self.model_copy(update={**shared, **own})

    @model_validator(mode="after")
    def _onnx_is_not_trained(self) -> "TrainOptions":
        is_file = self.start.weights.lower().endswith(".onnx")
        if is_file and self.model != ONNX:
            raise ValueError(f"{self.start.weights} is a file of onnx: set model={ONNX}")
        if self.model == ONNX and not is_file:
            raise ValueError("model onnx is a file: start.weights must be a file .onnx")
        if self.model == ONNX and not (self.is_given or self.is_linear):
            raise ValueError(
                "model onnx cannot be trained: set length to 0 steps to use it as it is, or "
                "start.head=linear for other classes"
            )
        return self

    @property
    def is_given(self) -> bool:
        """Whether the result is the weights that somebody gave, as they are."""
        return bool(self.start.weights) and self.start.head == "keep" and not self.length.amount

    @property
    def is_linear(self) -> bool:
        """Whether nothing but the head is fitted."""
        return self.start.head == "linear"

    def total_steps(self, images_per_epoch: int) -> int:
        """The length in steps; 0 when weights are used as they are, or only the head is fitted."""
        if self.is_linear:
            return 0
        return self.length.steps(images_per_epoch=images_per_epoch, batch_size=self.batch_size)

    def warmup_steps(self, images_per_epoch: int) -> int:
        """The length of the warm-up in steps."""
        return self.learning_rate.warmup.steps(
            images_per_epoch=images_per_epoch, batch_size=self.batch_size
        )

    def at_step(self, step: int, images_per_epoch: int) -> "TrainOptions":
        """The options by which the images of a step are changed; the step counts from 0."""
        steps_without = self.augment.off_at_end.steps(
            images_per_epoch=images_per_epoch, batch_size=self.batch_size
        )
        if step < self.total_steps(images_per_epoch) - steps_without:
            return self
        return self.model_copy(update={"augment": NO_CHANGES})

    def schedule(self, images_per_epoch: int) -> Schedule:
        """The schedule, with every length in images and the rate scaled to the batch size."""
        rate = self.learning_rate

        def images(length: Length) -> float:
            return length.images(images_per_epoch=images_per_epoch, batch_size=self.batch_size)

        return Schedule(
            total_images=images(self.length),
            warmup_images=images(rate.warmup),
            warmup_start_rate=rate.warmup_start,
            peak_rate=scaled_rate(rate.base, self.batch_size, rate.scaling),
            kind=rate.schedule,
            num_steps_down=rate.num_steps_down,
            gamma=rate.gamma,
            gamma_images=images(rate.gamma_every),
        )
