"""Known: scores of the known images, whose crops may not be chosen.

In: the labelled and the test images, and the teacher that scores the pile. Out: their scores by
role, with descriptors; none, where no crops are looked for.

    known_scores = score_known(run, options.topk, options.score, teacher, {"test": test})
    chosen = run.topk(scores, options.topk, exclude=signatures, known_scores=known_scores)
"""

from collections.abc import Mapping

from flows.campaign.run import Run
from tasks.contract import Output
from tasks.score import ScoreOptions
from tasks.topk import TopkOptions


def score_known(
    run: Run,
    topk: TopkOptions,
    options: ScoreOptions,
    teacher: Output,
    known: Mapping[str, Output],
    suffix: str = "",
) -> dict[str, Output]:
    """The scores of known images; each is a stage named after them, with the suffix."""
    if not topk.drop_crops:
        return {}
    return {
        name: run.score(images, teacher, options, role=f"{name}_scores{suffix}")
        for name, images in known.items()
    }
