"""Committee: networks that each learn from another share of the labels, and judge a choice.

In: labelled images, and the options of the committee and of its members. Out: the members by role,
and what they say of a choice. They are trained once, whatever is chosen afterwards.

    members = train_committee(run, options.committee, options.member, labelled, classes, gather)
    agreement = run.agreement(pile, chosen, members, options.committee)
    dropped = classes_below(agreement, options.committee.min_precision)
"""

import logging
from collections.abc import Sequence

from flows.campaign.run import Run
from tasks.agreement import CommitteeOptions, read_precision
from tasks.contract import Output
from tasks.estimate import Estimate
from tasks.gather import GatherOptions, Share
from tasks.train import TrainOptions
from tasks.train.estimate import estimate_training

logger = logging.getLogger(__name__)

SEED_STEP, SEEDS = 7_919, 2**31


def train_committee(
    run: Run,
    options: CommitteeOptions,
    member: TrainOptions,
    labelled: Output,
    classes: Sequence[str],
    gather: GatherOptions,
) -> dict[str, Output]:
    """The members by role; none, where nobody is to be asked."""
    members = {}
    for number in range(1, options.members + 1):
        # Their seeds are apart from those of the teacher, which may be such a network itself.
        seed = (member.seed + number * SEED_STEP) % SEEDS
        lessons = run.gather(
            labelled,
            options=gather,
            classes=classes,
            share=Share(options.percent, seed),
            role=f"member_lessons_{number}",
        )
        own = member.model_copy(update={"seed": seed})
        role = f"member_{number}"
        members[role] = run.train(lessons, own, classes=classes, role=role)
    return members


def classes_below(agreement: Output, min_precision: float) -> list[str]:
    """The classes whose estimated precision is lower, which are then not learned."""
    rows = read_precision(agreement).to_pylist()
    below = [row for row in rows if row["estimate"] is not None and row["estimate"] < min_precision]
    if below:
        named = ", ".join(f"{row['name']} ({row['estimate']:.0%})" for row in below)
        logger.warning(
            "dropped, for their estimated precision is below committee.min_precision (%s): %s",
            f"{min_precision:g}",
            named,
        )
    return [row["name"] for row in below]


def estimate_committee(options: CommitteeOptions, member: TrainOptions, labels: int) -> Estimate:
    """The trainings of the members, on their share of so many labelled images."""
    estimate = Estimate()
    for number in range(1, options.members + 1):
        images = round(labels * options.percent / 100)
        estimate += estimate_training(f"member_{number}", member, images)
    return estimate
