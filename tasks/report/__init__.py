"""report: one self-contained HTML page about a campaign, with pictures and plots.

In: the outputs of all stages of a campaign, as a `Story`. Out: `index.html`, which needs no network
and no other file, and a manifest. The same outputs give the same bytes, apart from the times that
their manifests tell.

    page = report(root, ReportOptions(), story)
    print(f"{page.uri}/index.html")
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from infra.errors import ProtegeError
from infra.lease import Lease
from infra.store import Store, open_store
from tasks import contract
from tasks.contract import Manifest, OnProgress, Output, Receipt, once, silent
from tasks.options import Options

STAGE = "report"
VERSION = 1
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


class ReportOptions(Options):
    """What the page shows."""

    title: str = ""
    """Heading of the page; empty is the name of the recipe."""
    images_per_strip: int = Field(12, ge=1, le=100)
    """Images side by side: the best of a class, and as many around ranks K/4, K/2 and K."""
    max_classes: int = Field(50, ge=1, le=1000)
    """Classes shown with pictures; where there are more, those most in need of a look go first."""


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
    root: Store, options: ReportOptions, story: Story, on_progress: OnProgress = silent
) -> Output:
    """Write the page, or take the one that is there. Raises ProtegeError for a missing output."""
    missing = [role for role in ROLES if role not in story.outputs and role not in OPTIONAL]
    if missing:
        raise ProtegeError(
            f"the report needs the outputs of all stages; missing: {', '.join(missing)}. Run the "
            "recipe to its end first"
        )
    store = open_store(f"{root.uri}/{STAGE}/{_fingerprint(options, story)}")
    make = functools.partial(_make, root, store, options, story)
    return once(store, make, on_progress, inputs=story.outputs)


def _make(
    root: Store,
    store: Store,
    options: ReportOptions,
    story: Story,
    lease: Lease,
    on_progress: OnProgress,
) -> Output:
    # Imported here: a run that finds its page need not wait for matplotlib.
    from tasks.report.page import render

    started = time.perf_counter()
    page = render(root, options, story, on_progress).encode()
    lease.check()
    store.replace(PAGE, page)
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=options.model_dump(),
        inputs={role: contract.link(output) for role, output in story.outputs.items()},
        parts=[Receipt(PAGE, 0, 0, 0, contract.bytes_digest(page))],
        seconds=time.perf_counter() - started,
        extra={"recipe": story.recipe, "campaign": story.campaign},
    )
    lease.check()
    return contract.publish(store, manifest)


def _fingerprint(options: ReportOptions, story: Story) -> str:
    spread = [dict(run) for run in story.spread]
    content = [options.content(), story.recipe, story.campaign, story.command, spread]
    inputs = [f"{role}={output.digest}" for role, output in sorted(story.outputs.items())]
    return contract.fingerprint_of(STAGE, VERSION, {"report": content}, inputs)
