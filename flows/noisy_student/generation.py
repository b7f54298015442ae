"""Generation: a teacher, its student, and whether one of them was worse than the one before.

In: models and held-out images, or two choices and a committee. Out: yes or no.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.campaign.committee import classes_below
from flows.campaign.run import Run
from flows.noisy_student.options import NoisyStudent
from tasks.agreement import read_precision
from tasks.contract import Output
from tasks.evaluate import Choice, figure, read_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """A student, and what it learned from; `before` is the generation of its teacher."""

    number: int
    student: Output
    choice: Choice
    agreement: Output | None
    before: "Generation | None"


def ask_committee(
    run: Run, options: NoisyStudent, choice: Choice, members: Mapping[str, Output], number: int
) -> tuple[Output | None, Sequence[str]]:
    """What the committee says of a choice, and the classes that are to be dropped for it."""
    if not members:
        return None, ()
    agreement = run.agreement(
        choice.images, choice.chosen, members, options.committee, role=f"agreement_{number}"
    )
    return agreement, classes_below(agreement, options.committee.min_precision)


def chooses_worse(agreement: Output | None, before: Generation | None) -> bool:
    """Whether a student chooses images that are less often right than those of its own teacher.

    Only classes that both have chosen for are compared: one more would be no fault of the student.
    """
    if agreement is None or before is None or before.agreement is None:
        return False
    old, new = (_sampled(output) for output in (before.agreement, agreement))
    both = old.keys() & new.keys()
    (old_share, old_variance), (new_share, new_variance) = (
        _share([found[name] for name in both]) for found in (old, new)
    )
    error = math.sqrt(old_variance + new_variance)
    if new_share + error >= old_share:
        return False
    logger.warning(
        "generation %s is worse than the one before, as the committee says of the images that it "
        "would choose (%.1f %% right, before it %.1f %%, standard error %.1f points): the result "
        "is the one before",
        before.number,
        100 * new_share,
        100 * old_share,
        100 * error,
    )
    return True


def _sampled(agreement: Output) -> dict[str, tuple[int, int]]:
    """How many images of each class were sampled, and how many of them all members agree on."""
    rows = read_precision(agreement).to_pylist()
    return {row["name"]: (row["sampled"], row["unanimous"]) for row in rows if row["sampled"]}


def _share(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The share that all members agree on, of all classes together, and its variance."""
    sampled = max(1, sum(count for count, _ in counts))
    share = sum(unanimous for _, unanimous in counts) / sampled
    return share, share * (1 - share) / sampled


def is_worse(
    run: Run, options: NoisyStudent, audit: Output, teacher: Output, student: Output, number: int
) -> bool:
    """Whether held-out images say that a student is worse than its teacher, beyond their error."""
    role, before = f"student_{number}", f"student_{number - 1}" if number > 1 else "teacher"
    models, tests = {before: teacher, role: student}, {"audit": audit}
    measured = run.evaluate(
        tests, models, options.evaluate, compare=(role, before), role=f"audit_{number}"
    )
    metrics = read_metrics(measured)
    gain, error = (figure(metrics, role, name) for name in ("gain", "gain_standard_error"))
    if options.generations.stop == "never" or gain is None or error is None or gain + error >= 0:
        return False
    logger.warning(
        "generation %s is worse than the one before on the held-out images (%+.1f points, standard "
        "error %.1f): it is the last, and the result is the one before",
        number,
        100 * gain,
        100 * error,
    )
    return True
