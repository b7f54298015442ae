"""report: one self-contained HTML page about a campaign, with pictures and plots.

In: the outputs of all stages of a campaign, as a `Story`. Out: `index.html`, which needs no network
and no other file, and a manifest. The same outputs give the same bytes, apart from the times that
their manifests tell.

    page = report(root, story, ReportOptions())
    print(f"{page.uri}/index.html")
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from infra.errors import ProtegeError
from infra.store import Store
from tasks import contract
from tasks.contract import Made, OnProgress, Output, Receipt, Session, Target, make_output, silent
from tasks.report.options import ReportOptions

__all__ = ["PAGE", "ROLES", "STAGE", "ReportOptions", "Story", "report"]

STAGE = "report"
VERSION = 2
PAGE = "index.html"
ROLES = (
    "labelled",
    "pile",
    "test",
    "teacher",
    "score",
    "topk",
    "gather",
    "pretrained",
    "student",
    "baseline",
    "evaluate",
)
OPTIONAL = frozenset({"gather", "pretrained", "baseline"})  # some recipes have no such step


@dataclass(frozen=True)
class Story:
    """What happened in a campaign, and how to make it happen again.

    `outputs` are by role, in the order of the run (`ROLES`); `spread` has one entry for each run of
    the same settings with another seed: seed, baseline_top1, student_top1, perhaps random_top1 and
    chosen_precision.
    """

    recipe: str
    campaign: str
    command: str
    outputs: Mapping[str, Output]
    spread: tuple[Mapping[str, float], ...] = ()


def report(
    root: Store,
    story: Story,
    options: ReportOptions = ReportOptions(),
    *,
    on_progress: OnProgress = silent,
) -> Output:
    """Write the page, or take the one that is there. Raises ProtegeError for a missing output."""
    missing = [role for role in ROLES if role not in story.outputs and role not in OPTIONAL]
    if missing:
        raise ProtegeError(
            f"the report needs the outputs of all stages; missing: {', '.join(missing)}. Run the "
            "recipe to its end first"
        )
    spread = [dict(run) for run in story.spread]
    content = {
        "recipe": story.recipe,
        "campaign": story.campaign,
        "command": story.command,
        "spread": spread,
    }
    target = Target(root, STAGE, VERSION, options, story.outputs, content=content)
    return make_output(target, functools.partial(_make, options, story), on_progress)


def _make(options: ReportOptions, story: Story, session: Session) -> Made:
    # Imported here: a run that finds its page need not wait for matplotlib.
    from tasks.report.page import render

    root = next(iter(story.outputs.values())).root
    page = render(root, options, story, session.on_progress).encode()
    session.lease.check()
    session.store.replace(PAGE, page)
    extra = {"recipe": story.recipe, "campaign": story.campaign}
    return Made([Receipt(PAGE, 0, 0, 0, contract.bytes_digest(page))], extra)
