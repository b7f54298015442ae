"""Chance: whether a model knows anything, before the expensive part of a run rests on it.

In: predictions on labelled images that the model has not learned from. Out: nothing, or an error
that shows what it takes for what. It is measured against the best answer that needs no look at the
image: always the most frequent class.

    check_better_than_chance(predicted, "teacher")
"""

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.evaluate.predictions import read_predictions

MAX_P_VALUE = 0.01  # a model that guesses is taken for one that knows something once in so many
LISTED_ERRORS = 5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Knowledge:
    """How many of `count` images were predicted right, and how many chance would give.

    `errors` are (true class, predicted class) with their numbers, the most frequent first.
    """

    count: int
    correct: int
    chance: float
    p_value: float
    errors: tuple[tuple[tuple[str, str], int], ...]

    @property
    def is_clear(self) -> bool:
        """Whether the model is better than chance."""
        return self.p_value <= MAX_P_VALUE

    @property
    def could_be_clear(self) -> bool:
        """Whether there are images enough to tell: a model without errors would be clear."""
        return binomial_tail(self.count, self.count, self.chance) <= MAX_P_VALUE


def measure_knowledge(predicted: Output) -> Knowledge:
    """Compare a model with chance, on the images that have a class."""
    table = read_predictions(predicted, ["label", "predicted"]).drop_null()
    labels_N, predicted_N = table["label"].to_numpy(), table["predicted"].to_numpy()
    count, correct = len(labels_N), int((labels_N == predicted_N).sum())
    chance = float(np.bincount(labels_N).max() / count) if count else 1.0
    wrong_N, names = labels_N != predicted_N, predicted.classes
    errors = Counter(zip(labels_N[wrong_N].tolist(), predicted_N[wrong_N].tolist(), strict=True))
    named = tuple(((names[true], names[taken]), n) for (true, taken), n in errors.most_common())
    return Knowledge(count, correct, chance, binomial_tail(correct, count, chance), named)


def check_better_than_chance(predicted: Output, model: str, *, stop: bool = True) -> None:
    """Raise ProtegeError, or warn, when the model is not clearly better than chance."""
    if not predicted.kept:
        raise ProtegeError(
            f"none of the {predicted.rows_in:,} labelled images that the {model} was asked about "
            f"can be used: `protege rejects {predicted.uri}` says why"
        )
    found = measure_knowledge(predicted)
    if found.is_clear:
        return
    errors = "".join(
        f"\n  {true} is taken for {taken}: {number:,}"
        for (true, taken), number in found.errors[:LISTED_ERRORS]
    )
    text = (
        f"the {model} is right on {found.correct:,} of {found.count:,} labelled images that it has "
        f"not learned from; always the most frequent class would be right on "
        f"{found.chance * found.count:,.0f}. Its most frequent errors:{errors}\n"
    )
    if stop and found.could_be_clear:
        raise ProtegeError(
            f"{text}What it would say of the pile is random, so the run stops here. "
            f"Train the {model} longer or at another rate, label more images, start from weights "
            "that know more, or set approval.teacher_at_chance=go_on"
        )
    logger.warning("%sWhat it says of the pile may be random", text)


def binomial_tail(correct: int, count: int, chance: float) -> float:
    """The probability of at least so many successes in `count` draws."""
    if correct <= 0 or chance >= 1:
        return 1.0
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    successes = np.arange(correct, count + 1)
    log_terms: npt.NDArray[np.float64] = (
        log_factorials[count]
        - log_factorials[successes]
        - log_factorials[count - successes]
        + successes * np.log(chance)
        + (count - successes) * np.log1p(-chance)
    )
    return float(min(1.0, np.exp(log_terms).sum()))
