"""Checks of what an objective is given, before anything is trained."""

from collections.abc import Mapping, Sequence

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.images import Inputs
from tasks.train.objective_options import (
    UNLABELLED,
    ContrastiveOptions,
    JointOptions,
    ObjectiveOptions,
    SoftLabelsOptions,
    SupervisedOptions,
)
from tasks.train.options import TrainOptions


def check_objective(
    objective: ObjectiveOptions,
    inputs: Mapping[str, Output],
    options: TrainOptions,
    classes: Sequence[str],
    *,
    is_linear: bool = False,
) -> None:
    """Raise ProtegeError when the objective lacks an input, or one does not fit the training."""
    wanted = {*objective.DATA, *objective.MODELS}
    if wanted != set(inputs):
        raise ProtegeError(
            f"the objective {objective.NAME} takes the objective_inputs "
            f"{_names(wanted)}, and was given {_names(set(inputs))}"
        )
    if is_linear and not isinstance(objective, SupervisedOptions | SoftLabelsOptions):
        raise ProtegeError(
            f"a linear head is fitted to labels, and the objective {objective.NAME} has others: "
            "train a new head (options.start.head=new, or init_head='new')"
        )
    if isinstance(objective, ContrastiveOptions) and not options.length.amount:
        raise ProtegeError(
            "options.length is 0, and a projection head that was not trained is worth nothing: "
            "give a length"
        )
    if isinstance(objective, ContrastiveOptions) and options.augment.off_at_end.amount:
        raise ProtegeError(
            "options.augment.off_at_end leaves views of an image that are alike, and the objective "
            f"{objective.NAME} learns from views that differ: set it to 0"
        )
    for role in objective.MODELS:
        _check_model(role, inputs[role], options, classes)
    for role in objective.DATA:
        if inputs[role].stage != "gather":
            raise ProtegeError(
                f"{role}: {inputs[role].uri} is an output of {inputs[role].stage}, and a training "
                "learns from an output of gather: gather it first"
            )
    if isinstance(objective, JointOptions):
        _check_shares(objective, options)


def check_processes(objective: ObjectiveOptions, options: TrainOptions, processes: int) -> None:
    """Raise ProtegeError when images must meet that are computed one virtual rank after the other.

    A process forgets the images of a virtual rank when it computes the next one. So statistics or
    a loss of the whole batch need a process for each of them, all at work at the same time.
    """
    whole = "sync_batch_norm" if options.sync_batch_norm else ""
    whole = whole or (f"the objective {objective.NAME}" if objective.COMPARES_IMAGES else "")
    ranks = options.num_virtual_ranks
    if whole and processes != ranks:
        raise ProtegeError(
            f"{whole} looks at a whole batch at a time, so each of its {ranks} virtual ranks needs "
            f"a process of its own, and there are {processes} training processes: set "
            f"options.virtual_ranks={processes}, or train in {ranks} processes"
        )


def _check_model(role: str, model: Output, options: TrainOptions, classes: Sequence[str]) -> None:
    if model.stage != "train":
        raise ProtegeError(f"{role}: {model.uri} is an output of {model.stage}, and no model")
    missing = sorted(set(classes) ^ set(model.classes))
    if missing:
        raise ProtegeError(
            f"{role}: {model.uri} was trained for other classes than those of this training: only "
            f"one of them knows {missing[0]!r}"
        )
    size = Inputs.model_validate(model.options["inputs"]).size
    if size != options.inputs.size:
        raise ProtegeError(
            f"{role}: {model.uri} was trained with images of {size} pixels, and sees those of this "
            f"training, of {options.inputs.size}: set options.inputs.size={size}"
        )


def _check_shares(joint: JointOptions, options: TrainOptions) -> None:
    images = options.batch_size * joint.ratio
    if images % options.num_virtual_ranks:
        raise ProtegeError(
            f"a step has batch_size ({options.batch_size}) * ratio ({joint.ratio:g}) = {images:g} "
            f"{UNLABELLED} images, which {options.num_virtual_ranks} virtual ranks cannot share "
            "equally: set options.virtual_ranks or the ratio"
        )


def _names(roles: set[str]) -> str:
    return ", ".join(sorted(roles)) or "none"
