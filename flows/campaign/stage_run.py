"""Stages: how a run calls a stage, and what its campaign notes of it.

In: the work of a stage, which wants nothing but somebody to tell its progress to. Out: its output,
in the campaign as well, or an error that names its options as a person sets them.

`flows/campaign/run.py` adds the verbs, and the engine's run makes a Prefect task of each stage.
"""

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from flows.campaign.options import ApprovalOptions
from flows.recipes import recipe
from infra.crash import Crashed
from infra.errors import ProtegeError, name_options, utc_now
from infra.executors import Executor, Failures
from infra.store import Store
from tasks import campaigns
from tasks.campaigns import Campaign
from tasks.contract import OnProgress, Output, silent
from tasks.estimate import Estimate

logger = logging.getLogger(__name__)

Watch = Callable[[str], OnProgress]  # the progress of a stage, by its name on the screen
Result = TypeVar("Result")
PLURALS = {"signature": "_signatures", "gather": "_lessons"}


class Work(Protocol):
    """A stage with all that it is given, but for its progress."""

    def __call__(self, *, on_progress: OnProgress) -> Output:
        """Do it, unless it was done before."""


def watch_nothing(_name: str) -> OnProgress:
    """The progress of those who do not watch."""
    return silent


class StageRun:
    """One run at work; without a campaign, its stages belong to none."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        *,
        campaign: Campaign | None = None,
        watch: Watch = watch_nothing,
    ) -> None:
        self.store = store
        self.executor = executor
        self._campaign = campaign
        self._watch = watch
        self.made_seconds = 0.0  # of the stages that this very run did the work of

    def approve(
        self, options: ApprovalOptions, stage: str, estimate: Callable[[], Estimate]
    ) -> None:
        """Wait for a person, if the run is to wait before this stage. Raises ProtegeError."""
        if options.before == stage:
            finished = campaigns.newest_first(campaigns.campaigns(self.store))
            made = [(campaign.id, campaign.outputs) for campaign in finished]
            self._ask(stage, estimate().with_rates(made))

    def group(self, _name: str, work: Callable[[], Result]) -> Result:
        """Call some verbs that belong together, which the UI shows under this name."""
        return work()

    # -------------------------------------------------------------------------------- campaign

    @property
    def campaign(self) -> Campaign:
        """The campaign as it now is."""
        assert self._campaign is not None, "only recipes ask for it"
        return self._campaign

    def outputs(self) -> dict[str, Output]:
        """The outputs of the stages before the report, by role, in order of run."""
        outputs = self.campaign.outputs.items()
        return {role: output for role, output in outputs if output.stage != "report"}

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Note that the campaign is complete, unless it was before."""
        if not self.campaign.finished:
            self._save(summary=summary, finished_at=utc_now())

    # --------------------------------------------------------------------- what an engine changes

    def _run_stage(self, stage: str, role: str, work: Work) -> Output:
        """Call a stage, and note its output in the campaign as it was when it was made."""
        try:
            output = work(on_progress=self._watch(self._title(stage, role)))
        except (ProtegeError, Failures, Crashed) as error:
            name_options(error, functools.partial(self._option, role))
            raise
        state = "was already there" if output.reused else f"made in {output.seconds:.1f} s"
        rejected = f", {output.rejected:,} rejected" if output.rejected else ""
        logger.info(
            "%s: %s %s, %s rows kept%s", role, output.uri, state, f"{output.kept:,}", rejected
        )
        self.made_seconds += 0 if output.reused else output.seconds
        if self._campaign is not None and not self._knows(role, output):
            self._save(outputs={role: output})
        return output

    def _ask(self, stage: str, estimate: Estimate) -> None:
        """Ask in the terminal."""
        if not sys.stdin.isatty():
            raise ProtegeError(
                f"approval.before is {stage}, but nobody can be asked here: run it in a terminal, "
                "or from the UI (protege up), or set approval.before=nothing"
            )
        for line in estimate.lines():
            print(line, file=sys.stderr)  # noqa: T201  a question in the terminal
        question = f"go on with {stage}? [y/N] "
        print(question, end="", file=sys.stderr, flush=True)  # noqa: T201
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise ProtegeError(f"{stage} was not approved. What is finished is kept")

    def _title(self, stage: str, role: str) -> str:
        """What the work is called on the screen: a model has the name that it has in the table."""
        known = stage == "train" and self._campaign is not None
        name = recipe(self.campaign.recipe).name_of(role) if known else role
        return stage_title(stage, name)

    def _option(self, role: str, option: str) -> str:
        """What an option of a role is called where a person sets it."""
        if self._campaign is None:
            return f"options.{option}"
        return recipe(self._campaign.recipe).option_of(role, option)

    def _knows(self, role: str, output: Output) -> bool:
        known = self.campaign.outputs.get(role)
        same = known is not None and (known.fingerprint, known.digest)
        return output.reused and same == (output.fingerprint, output.digest)

    def _save(self, **changes: Any) -> None:
        self._campaign = campaigns.update(self.store, self.campaign, **changes)


def stage_title(stage: str, role: str) -> str:
    """`train student`; `score`, where the stage has one role only and its name says all."""
    # `labelled_signatures` are the signatures of `labelled`, and `labelled_lessons` its lessons.
    return stage if stage == role else f"{stage} {role.removesuffix(PLURALS.get(stage, ''))}"
