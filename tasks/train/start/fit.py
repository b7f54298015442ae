"""Fit: whether given weights fit their network, before any image is read.

In: options with `start.weights`, and the classes of the labelled images, where they are known. Out:
nothing, or a ProtegeError: that of the training, hours earlier.

torch is loaded in a process of its own, `python -m tasks.train.start.fit`: the caller stays small.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.apart import answer, answer_apart
from infra.errors import ProtegeError
from tasks.train.options import TrainOptions
from tasks.train.start.given import look_at_given


def check_fit(options: TrainOptions, classes: Sequence[str] | None) -> None:
    """Raise ProtegeError when a training with these weights would be refused."""
    given = look_at_given(options, classes)
    request = {
        "options": options.model_dump(mode="json"),
        "classes": given.classes,
        "wanted": list(classes or ()),
    }
    problem = answer_apart("tasks.train.start.fit", request)
    if problem:
        raise ProtegeError(problem)


def problem_of(request: Mapping[str, Any]) -> str:
    """Why these weights do not fit, in this process; empty when they do."""
    from models.state_dicts import OtherClasses
    from tasks.train.start.initial import given_network

    options = TrainOptions.model_validate(request["options"])
    # Of unknown classes, any number: the features alone tell another network.
    kept = request["classes"] or ["?"]
    try:
        given_network(options, request["wanted"] or kept, kept)
    except ProtegeError as error:
        if isinstance(error.__cause__, OtherClasses) and not request["classes"]:
            return ""
        return str(error)
    return ""


if __name__ == "__main__":
    answer(problem_of)
