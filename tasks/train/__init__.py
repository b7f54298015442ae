"""train: one training job: teacher, student, fine-tune or baseline.

In: `lessons`, and perhaps a model to start from. Out: `weights.safetensors`, which names its
network, classes and inputs, and `history.parquet`. Training runs in processes of its own, so that a
crash does not end the caller.

    teacher = train(root, gather(root, labelled), TrainOptions(model="resnet50"))
    student = train(root, lessons, fine_tune, init=pretrained)
    student = train(root, lessons, fine_tune, init=pretrained, init_head="new")  # other classes
    probe = train(root, lessons, no_steps, init=pretrained, init_head="linear")  # linear evaluation
    student = train(root, lessons, options, objective=DistillationOptions(temperature=1),
                    objective_inputs={"teacher": teacher})

launching.py   its processes, on this machine or on others, until it is done
trainer.py     the loop: progress, history, checkpoints, an early end, the result
learner.py     what learns: the network, its optimizer, its average, and a step of them
compiling.py   whether torch compiles the network, as a measurement says
checks.py      whether options, lessons and the model to start from fit each other
objectives/    what the network is trained to do: one file a loss
augment_options.py  options of the random changes of images
augmentation.py  which of them a step makes
augmented.py   images beside what these make of them, to look at
objective_options.py  their options
objective_check.py    whether they and their inputs fit the training
start/         what the network knows before the first step
data/          which samples a step gets
history.py     the measurements of the course
pinned.py      how a batch reaches a GPU without waiting
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
from collections.abc import Mapping, Sequence

from infra.settings import Processes
from infra.store import Store
from tasks import contract
from tasks.contract import Made, OnProgress, Output, Receipt, Session, Target, make_output, silent
from tasks.images import IMAGES_VERSION
from tasks.inference.weights import WEIGHTS
from tasks.train.augment_options import Augment
from tasks.train.augmented import AugmentedPicture, augmented_pictures
from tasks.train.checks import (
    check_augment,
    check_classes,
    check_init,
    check_length,
    check_lessons,
    check_warmup,
)
from tasks.train.job import (
    CHECKPOINTS,
    HISTORY,
    PROJECTION,
    TRAIN_SET,
    InitHead,
    fits_head_only,
)
from tasks.train.launching import TrainingPlan, run_to_end
from tasks.train.objective_check import check_objective
from tasks.train.objective_options import (
    ContrastiveOptions,
    DistillationOptions,
    JointOptions,
    ObjectiveOptions,
    SoftLabelsOptions,
    SupervisedOptions,
)
from tasks.train.options import Training, TrainOptions
from tasks.train.start.given import look_at_given

STAGE = "train"
VERSION = 7

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
    `init_head` is "new": then its features are kept, and the head starts from random weights; or
    "linear": then its features are frozen, and the head is fitted to them, with a length of 0. For
    the model `<name>+projection`, it may be a `<name>` that was trained contrastively.
    Without `classes`, those of the head that is kept, else of the lessons.
    `objective` is what the network is trained to do, and `objective_inputs` the data sets and
    models that it draws from beside `data`, by role.
    Without `processes`, the settings decide how many, and on which machines. Raises ProtegeError
    for a checkpoint or a model that does not fit, damaged images or a diverged loss; `Crashed` when
    the processes die again and again.
    """
    check_lessons(data)
    check_length(options, init)
    check_warmup(options, data.kept)
    check_augment(options, data.kept)
    classes = classes or (init if init and init_head == "keep" else data).classes
    check_classes(data, classes)
    given = look_at_given(options, classes)
    if init is not None:
        check_init(init, init_head, options, classes)
    is_linear = fits_head_only(options, init_head)
    check_objective(objective, objective_inputs, options, classes, is_linear=is_linear)
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
    plan = TrainingPlan(
        options=options,
        objective=objective,
        data={TRAIN_SET: data, **{role: objective_inputs[role] for role in objective.DATA}},
        models={role: objective_inputs[role] for role in objective.MODELS},
        classes=tuple(classes),
        given=given,
        init=init,
        init_head=init_head,
    )
    make = functools.partial(_make, plan, processes)
    return make_output(target, make, on_progress)


def _make(plan: TrainingPlan, processes: Processes | None, session: Session) -> Made:
    if not session.store.exists(WEIGHTS):
        # The weights were deleted, to be made again; the old history is not that of the new ones.
        session.store.delete(HISTORY)
        session.store.delete(PROJECTION)
    seconds = run_to_end(plan, processes, session)
    weights = contract.bytes_digest(session.store.read(WEIGHTS))
    history, rows = contract.read_receipt(session.store, HISTORY), plan.images_per_epoch
    parts = [
        Receipt(WEIGHTS, rows, rows, 0, weights, history.facts, seconds=seconds),
        Receipt(HISTORY, 0, 0, 0, history.digest),
    ]
    if session.store.exists(PROJECTION):
        projection = contract.bytes_digest(session.store.read(PROJECTION))
        parts.append(Receipt(PROJECTION, 0, 0, 0, projection))
    extra = {
        "classes": list(plan.classes),
        "objective": plan.objective.NAME,
        "weights": weights,
        "steps": plan.total_steps,
        "seed": plan.options.seed,
    }
    return Made(parts, extra)
