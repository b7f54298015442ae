"""train: one training job: teacher, student, fine-tune or baseline.

In: `lessons`, and perhaps a model to start from. Out: `weights.safetensors`, which names its
network, classes and inputs, and `history.parquet`. Training runs in processes of its own, so that a
crash does not end the caller.

    teacher = train(root, gather(root, labelled), TrainOptions(model="resnet50"))
    student = train(root, lessons, fine_tune, init=pretrained)
    student = train(root, lessons, fine_tune, init=pretrained, init_head="new")  # other classes
    student = train(root, lessons, options, objective=DistillationOptions(temperature=1),
                    objective_inputs={"teacher": teacher})

trainer.py     the loop: steps, history, checkpoints
objectives/    what the network is trained to do: one file a loss
augmentation.py  which random changes a step makes
augmented.py   images beside what these make of them, to look at
objective_options.py  their options
objective_check.py    whether they and their inputs fit the training
start/         what the network knows before the first step
data/          which samples a step gets
history.py     the measurements of the course
metrics.py     the same while it runs, with the speed: metrics.jsonl, and other programs' formats
checkpoint.py  what a training needs to resume
saving.py      checkpoints in the background
monitor.py     the loss of each step, read without waiting for the device
divergence.py  what is kept of a step whose loss is no number
replay.py      that step again, layer by layer
memory.py      how many images at once would fit, when a training had not the memory
world.py       the processes of one training
job.py         what they are given, and the files that they leave
"""

import functools
import logging
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.errors import ProtegeError
from infra.launch import Crashed, launch
from infra.settings import Processes, Settings
from infra.store import Store
from tasks import contract
from tasks.contract import Made, OnProgress, Output, Receipt, Session, Target, make_output, silent
from tasks.images import IMAGES_VERSION, Inputs
from tasks.inference.weights import WEIGHTS
from tasks.train.augmented import AugmentedPicture, augmented_pictures
from tasks.train.job import (
    CHECKPOINTS,
    HISTORY,
    JOB_FOLDER,
    PROJECTION,
    TRAIN_SET,
    InitHead,
    TrainJob,
)
from tasks.train.memory import memory_remedy
from tasks.train.metrics import describe_metrics
from tasks.train.objective_check import check_objective, check_processes
from tasks.train.objective_options import (
    ContrastiveOptions,
    DistillationOptions,
    JointOptions,
    ObjectiveOptions,
    SoftLabelsOptions,
    SupervisedOptions,
)
from tasks.train.options import Augment, Training, TrainOptions
from tasks.train.start.given import GivenWeights, list_classes, look_at_given

STAGE = "train"
VERSION = 5
MAX_STUCK_LAUNCHES = 1  # what dies twice at the same step is no accident
logger = logging.getLogger(__name__)

__all__ = [
    "HISTORY",
    "PROJECTION",
    "STAGE",
    "Augment",
    "AugmentedPicture",
    "ContrastiveOptions",
    "DistillationOptions",
    "JointOptions",
    "ObjectiveOptions",
    "SoftLabelsOptions",
    "SupervisedOptions",
    "TrainOptions",
    "Training",
    "augmented_pictures",
    "train",
]


def train(
    root: Store,
    data: Output,
    options: TrainOptions = TrainOptions(),
    *,
    classes: Sequence[str] | None = None,
    init: Output | None = None,
    init_head: InitHead = "keep",
    objective: ObjectiveOptions = SupervisedOptions(),
    objective_inputs: Mapping[str, Output] = {},
    processes: Processes | None = None,
    on_progress: OnProgress = silent,
) -> Output:
    """Train on lessons, or take the output that already exists.

    `init` is the model to start from. Its classes must be those of this training, unless
    `init_head` is "new": then its features are kept, and the head starts from random weights.
    Without `classes`, those of the head that is kept, else of the lessons.
    `objective` is what the network is trained to do, and `objective_inputs` the data sets and
    models that it draws from beside `data`, by role.
    Without `processes`, this machine's settings decide. Raises ProtegeError for a checkpoint or a
    model that does not fit, damaged images or a diverged loss; `Crashed` when the processes die
    again and again.
    """
    if data.stage != "gather":
        raise ProtegeError(
            f"{data.uri} is an output of {data.stage}, and a training learns from an output of "
            "gather, which shuffles images over everything: gather it first"
        )
    if not (options.length.amount or options.start.weights or init):
        raise ProtegeError(
            "options.length is 0, which leaves random weights: give options.start.weights, or a "
            "length"
        )
    _check_warmup(options, data.kept)
    classes = classes or (init if init and init_head == "keep" else data).classes
    given = look_at_given(options, classes)
    if init is not None:
        _check_init(init, init_head, options, classes)
    check_objective(objective, objective_inputs, options, classes)
    inputs = {"data": data, **({"init": init} if init else {}), **objective_inputs}
    content = {
        "classes": list(classes),
        "images_version": IMAGES_VERSION,
        "start_digest": given.digest,
        "start_classes": list(given.classes),
        "objective": {"name": objective.NAME, **objective.content()},
        "init_head": init_head,
    }
    target = Target(root, STAGE, VERSION, options, inputs, content=content, scratch=CHECKPOINTS)
    training = _Training(
        options=options,
        objective=objective,
        data={TRAIN_SET: data, **{role: objective_inputs[role] for role in objective.DATA}},
        models={role: objective_inputs[role] for role in objective.MODELS},
        classes=tuple(classes),
        given=given,
        init=init,
        init_head=init_head,
    )
    make = functools.partial(_make, training, processes)
    return make_output(target, make, on_progress)


def _check_warmup(options: TrainOptions, images: int) -> None:
    """Raise ProtegeError for a warm-up that is longer than the training."""
    steps, warmup_steps = options.total_steps(images), options.warmup_steps(images)
    if steps and warmup_steps > steps:
        raise ProtegeError(
            f"options.learning_rate.warmup ({options.learning_rate.warmup}) is "
            f"{warmup_steps:,} steps of {images:,} images, and options.length "
            f"({options.length}) only {steps:,}, so that the peak of the rate is "
            "never reached: shorten the warm-up"
        )


def _check_init(
    init: Output, init_head: InitHead, options: TrainOptions, classes: Sequence[str]
) -> None:
    """Raise ProtegeError when this training cannot start from that model."""
    model = init.options["model"]
    if model != options.model:
        raise ProtegeError(
            f"{init.uri} is a {model}, and the model of the options is {options.model}: set model "
            f"to {model}"
        )
    inputs = Inputs.model_validate(init.options["inputs"])
    if inputs != options.inputs:
        raise ProtegeError(
            f"{init.uri} was trained with other inputs ({inputs}) than those of the options "
            f"({options.inputs}): set the same"
        )
    if init_head == "keep" and init.classes != list(classes):
        raise ProtegeError(
            f"{init.uri} was trained for other classes ({list_classes(init.classes)}) than these "
            f"({list_classes(classes)}): pass init_head='new' to keep its features and train a new "
            "head, or train on images of its classes"
        )


@dataclass(frozen=True)
class _Training:
    options: TrainOptions
    objective: ObjectiveOptions
    data: Mapping[str, Output]
    models: Mapping[str, Output]
    classes: tuple[str, ...]
    given: GivenWeights
    init: Output | None
    init_head: InitHead

    @property
    def images_per_epoch(self) -> int:
        return self.data[TRAIN_SET].kept

    @property
    def total_steps(self) -> int:
        return self.options.total_steps(self.images_per_epoch)

    @property
    def total_work(self) -> int:
        """Steps; for a linear head, images whose features are computed."""
        return self.images_per_epoch if self.options.is_linear else self.total_steps


def _make(training: _Training, processes: Processes | None, session: Session) -> Made:
    processes, options = processes or Settings().training_processes(), training.options
    if processes.count > options.num_virtual_ranks:
        logger.warning(
            "%s of the %s training processes are not used, because a batch has %s virtual ranks",
            processes.count - options.num_virtual_ranks,
            processes.count,
            options.num_virtual_ranks,
        )
        processes = replace(processes, count=options.num_virtual_ranks)
    check_processes(training.objective, options, processes)
    if not training.total_steps:
        # Nothing is shared out: weights are taken as they are, or only a head is fitted.
        processes = replace(processes, count=1)
    if not session.store.exists(WEIGHTS):
        # The weights were deleted, to be made again; the old history is not that of the new ones.
        session.store.delete(HISTORY)
        session.store.delete(PROJECTION)
    seconds = _run(training, processes, session)
    weights = contract.bytes_digest(session.store.read(WEIGHTS))
    history, rows = contract.read_receipt(session.store, HISTORY), training.images_per_epoch
    parts = [
        Receipt(WEIGHTS, rows, rows, 0, weights, history.facts, seconds=seconds),
        Receipt(HISTORY, 0, 0, 0, history.digest),
    ]
    if session.store.exists(PROJECTION):
        projection = contract.bytes_digest(session.store.read(PROJECTION))
        parts.append(Receipt(PROJECTION, 0, 0, 0, projection))
    extra = {
        "classes": list(training.classes),
        "weights": weights,
        "steps": training.total_steps,
        "seed": options.seed,
    }
    return Made(parts, extra)


def _run(training: _Training, processes: Processes, session: Session) -> dict[str, float]:
    """Train to the end. Returns the seconds of each part of the work.

    Processes that die are launched again and resume, unless they die without getting any further.
    """
    options, total, reached, stuck = training.options, training.total_work, -1, 0
    session.on_progress(0, total, "starting")
    while True:
        reached_before, seconds = reached, dict[str, float]()
        try:
            with closing(_launch(training, processes, session)) as lines:
                for line in lines:
                    seconds, reached = line["seconds"], max(reached, line["step"])
                    session.on_progress(line["step"], total, describe_metrics(line))
        except Crashed as error:
            stuck = 0 if reached > reached_before else stuck + 1
            if error.out_of_memory or stuck > MAX_STUCK_LAUNCHES:
                if not error.likely_memory:
                    raise
                remedy = memory_remedy(options, len(training.classes), processes.count)
                raise Crashed(f"{error}. {remedy}", out_of_memory=error.out_of_memory) from error
            logger.warning("the training died and resumes from its last checkpoint: %s", error)
        else:
            return seconds


def _launch(
    training: _Training, processes: Processes, session: Session
) -> Generator[dict[str, Any], None, None]:
    """Launch the training processes once. Yields their progress."""
    with tempfile.TemporaryDirectory(prefix=JOB_FOLDER, ignore_cleanup_errors=True) as folder:
        progress, path = Path(folder) / "progress.jsonl", Path(folder) / "job.json"
        job = TrainJob(
            uri=session.store.uri,
            options=training.options,
            objective=training.objective.NAME,
            objective_options=training.objective.content(),
            data=training.data,
            models=training.models,
            classes=training.classes,
            given_classes=training.given.classes,
            init=training.init,
            init_head=training.init_head,
            progress=str(progress),
            attempt=session.attempt,
        )
        path.write_text(job.model_dump_json())
        threads = training.options.speed.threads or processes.threads
        yield from launch("tasks.train", path, progress, processes.count, threads)
