"""report: one self-contained HTML page about a campaign, with pictures and plots.

In: the outputs of all stages of a campaign, as a `Story`. Out: `index.html`, which needs no network
and no other file, and a manifest. The same outputs give the same bytes, apart from the times that
their manifests tell.

    page = report(root, story, ReportOptions())
    print(f"{page.uri}/index.html")
"""

import functools

from infra.errors import ProtegeError
from infra.store import Store
from tasks import contract
from tasks.contract import Made, OnProgress, Output, Receipt, Session, Target, make_output, silent
from tasks.report.options import ReportOptions
from tasks.report.pictures import Picture, pictures_of
from tasks.report.story import Role, Story

__all__ = [
    "PAGE",
    "STAGE",
    "Picture",
    "ReportOptions",
    "Role",
    "Story",
    "pictures_of",
    "report",
    "verdict_of",
]

STAGE = "report"
VERSION = 9
PAGE = "index.html"


def report(
    root: Store,
    story: Story,
    options: ReportOptions = ReportOptions(),
    *,
    on_progress: OnProgress = silent,
) -> Output:
    """Write the page, or take the one that is there. Raises ProtegeError for a missing output."""
    if story.missing:
        raise ProtegeError(
            "the report needs the outputs of all stages; missing: "
            f"{', '.join(story.missing)}. Run the recipe to its end first"
        )
    target = Target(root, STAGE, VERSION, options, story.outputs, content=story.content())
    return make_output(target, functools.partial(_make, options, story), on_progress)


def verdict_of(story: Story) -> list[str]:
    """The sentences with which the page begins where the result is no clear gain, if any."""
    from tasks.report.data import ReportData
    from tasks.report.verdict import verdict

    return list(verdict(ReportData(ReportOptions(), story)))


def _make(options: ReportOptions, story: Story, session: Session) -> Made:
    # Imported here: a run that finds its page need not wait for matplotlib.
    from tasks.report.page import render

    page = render(options, story, session.on_progress).encode()
    session.lease.check()
    session.store.replace(PAGE, page)
    extra = {"recipe": story.recipe, "campaign": story.campaign}
    return Made([Receipt(PAGE, 0, 0, 0, contract.bytes_digest(page))], extra)
