"""Verdict: whether the campaign was worth it, in the first sentences of the page.

In: the figures. Out: nothing where the result clearly beats the model that it is compared with;
else sentences that say so, whether that is within noise, the likely reason, and what to try.
"""

from collections.abc import Iterator

from tasks.report.data import ReportData
from tasks.report.format import number, percent

CLEAR_STANDARD_ERRORS = 2.0
FEW_LABELS = 20  # of a class
MOSTLY_WRONG = 0.5  # share of the chosen images that are what they were chosen for


def verdict(data: ReportData) -> Iterator[str]:
    """The sentences."""
    story = data.story
    if not data.is_measured(story.result):
        return
    gain = data.measures.value(story.result, "gain", data.datasets[0])
    error = data.measures.value(story.result, "gain_standard_error", data.datasets[0])
    if gain is None or error is None or gain > CLEAR_STANDARD_ERRORS * error:
        return
    result, other = story.role(story.result).noun, story.role(story.compared_with).noun
    size = f"{number(100 * abs(gain), 1)} points (± {number(100 * error, 1)} standard error)"
    within_noise = abs(gain) <= CLEAR_STANDARD_ERRORS * error
    noise = "within noise" if within_noise else "more than noise"
    if gain > 0:
        yield f"The {result} is better than the {other} by {size}, which is {noise}."
    elif gain < 0:
        yield f"The {result} does not beat the {other}: it is worse by {size}, which is {noise}."
    else:
        yield f"The {result} does not beat the {other}: both are right equally often."
    yield next(_reasons(data))


def _reasons(data: ReportData) -> Iterator[str]:
    """Likely reasons and what to try, the most likely first; the last one always applies."""
    yield from _weak_teacher(data)
    precision = data.measures.of_choice("precision")
    if precision is not None and precision < MOSTLY_WRONG:
        yield (
            f"Only {percent(precision)} of the chosen images are what they were chosen for: lower "
            "topk.k, or train a better teacher."
        )
    suspects = [card.name for card in data.cards if card.suspect]
    if suspects:
        yield (
            f"The class {suspects[0]} may have filled with images of other things: look at it "
            "below, and label images of what it has taken."
        )
    yield from _few_labels(data)
    yield (
        "Perhaps there is little left to gain here. Try another topk.k, a longer student.length, "
        "or another student.learning_rate."
    )


def _weak_teacher(data: ReportData) -> Iterator[str]:
    if data.choice is None:
        return
    teacher = data.role_of(data.choice.teachers[-1])
    top1, other = data.top1(teacher), data.top1(data.story.compared_with)
    if top1 is not None and other is not None and top1 <= other:
        yield (
            f"The {data.story.role(teacher).noun} is right on {percent(top1)}, no more often than "
            f"the {data.story.role(data.story.compared_with).noun} ({percent(other)}), so it "
            "cannot teach anything new: start it from weights that know more (start.weights), take "
            "a larger network, a longer training, or more labels."
        )


def _few_labels(data: ReportData) -> Iterator[str]:
    if data.choice is None:
        return
    lessons = data.inputs_of(data.choice.teachers[-1], "gather")
    images = sum(output.kept for output in lessons)
    per_class = images / max(1, len(data.choice.classes))
    if lessons and per_class < FEW_LABELS:
        yield (
            f"There are {number(per_class, 0)} labelled images of a class on average: some more "
            "labels help more than anything else."
        )
