"""Run: what the stages of one flow run share: the store, the machines, the campaign, the progress.

In: a recipe and its options. Out: a `Run`, whose campaign is begun or gone on with.

    with open_run("billion-scale", options, {"pile": options.pile}, root) as run: ...
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from infra.errors import ProtegeError, utc_now
from infra.executors import Cluster
from infra.lease import HOLDER
from infra.settings import Settings
from infra.store import Store, open_store
from tasks import campaigns
from tasks.campaigns import Campaign
from tasks.contract import OnProgress, Output, digest_of
from tasks.options import Options, problems
from tasks.shard import ShardOptions, Snapshot, pin

if TYPE_CHECKING:
    from flows.engine.progress import Progress

# When the command began, which is before Prefect was up; a run that a worker starts has none.
STARTED: ContextVar[float] = ContextVar("started")


class Run:
    """One flow run at work; a stage by itself belongs to no campaign."""

    def __init__(
        self, store: Store, executor: Cluster, progress: "Progress", campaign: Campaign | None
    ) -> None:
        self.store = store
        self.executor = executor
        self._progress = progress
        self._campaign = campaign
        self.made_seconds = 0.0  # of the stages that this very run did the work of

    @property
    def campaign(self) -> Campaign:
        """The campaign as it now is."""
        assert self._campaign is not None, "only recipes ask for it"
        return self._campaign

    def snapshot(self, role: str) -> Snapshot | None:
        """The source of this role as the campaign has pinned it, if it has."""
        if self._campaign is None or role not in self._campaign.snapshots:
            return None
        pinned = dict(self._campaign.snapshots[role])
        pinned["increments"] = tuple(pinned["increments"])
        return Snapshot(**pinned)

    def record(self, role: str, output: Output) -> Output:
        """Note the output of a stage in the campaign, as it was when it was made."""
        self.made_seconds += 0 if output.reused else output.seconds
        if self._campaign is not None and not self._knows(role, output):
            self._save(outputs={**self._campaign.outputs, role: asdict(output)})
        return output

    def _knows(self, role: str, output: Output) -> bool:
        known = self.campaign.outputs.get(role, {})
        return output.reused and known.get("digest") == output.digest

    def pin(self) -> None:
        """The sources are sound: from now on the campaign keeps to these snapshots."""
        self._save(pinned=True)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Note that the campaign is complete, unless it was before."""
        if self.campaign.finished:
            return
        self._save(summary=summary, finished_at=utc_now())

    def _save(self, **changes: Any) -> None:
        self._campaign = replace(self.campaign, **changes)
        campaigns.save(self.store, self._campaign)

    def outputs(self) -> dict[str, Output]:
        """The outputs of the stages before the report, by role, in order of run."""
        made = {role: Output(**one) for role, one in self.campaign.outputs.items()}
        return {role: output for role, output in made.items() if output.stage != "report"}

    def progress(self, name: str) -> OnProgress:
        """A bar in the terminal and a progress artifact in the UI."""
        return self._progress.of(name)


OptionsType = TypeVar("OptionsType", bound=Options)


def gathered(kind: type[OptionsType], parameters: Mapping[str, Any]) -> OptionsType:
    """A flow's parameters as the root options of its recipe. Raises ProtegeError."""
    sections = {name: parameters[name] for name in kind.model_fields}
    try:
        return kind(**sections)
    except ValidationError as error:
        raise ProtegeError("; ".join(problems(error, kind))) from None


@contextmanager
def open_run(
    recipe: str, options: Options, sources: Mapping[str, ShardOptions], root: str = ""
) -> Iterator[Run]:
    """Pin the sources, begin the campaign or go on with it, and lend out the machines."""
    store = open_store(root or Settings().root)
    with machines(store.uri, find_campaign(store, recipe, options, sources)) as run:
        yield run


@contextmanager
def machines(root: str = "", campaign: Campaign | None = None) -> Iterator[Run]:
    """Lend out the store and the machines."""
    # Imported here: the command line reads campaigns without waiting for Prefect.
    from prefect import runtime

    from flows.engine.logs import in_run_log
    from flows.engine.progress import Progress
    from flows.engine.server import heard

    settings = Settings()
    store = open_store(root or settings.root)
    holder = HOLDER.set(f"run {runtime.flow_run.name}")
    try:
        # From the inside: stop the machines, wait until the server hears, tell it the rest.
        with (
            in_run_log(),
            Progress() as progress,
            heard(settings.patience_seconds),
            Cluster(settings) as executor,
        ):
            yield Run(store, executor, progress, campaign)
    finally:
        HOLDER.reset(holder)


def find_campaign(
    store: Store, recipe: str, options: Options, sources: Mapping[str, ShardOptions]
) -> Campaign:
    """The campaign of these options and of the sources as they are now. Raises ProtegeError."""
    snapshots = {}
    for role, source in sources.items():
        try:
            snapshots[role] = asdict(pin(store, source))
        except ProtegeError as error:
            raise ProtegeError(f"{role}.source: {error}") from None
    # As JSON will give it back.
    plain = {
        role: {**one, "increments": list(one["increments"])} for role, one in snapshots.items()
    }
    told = options.model_dump(mode="json")
    return campaigns.begin(store, recipe, told, plain, campaign_key(options))


def campaign_key(options: Options) -> str:
    """What the campaigns of these options have in common in their names."""
    return digest_of(options.content())[:8]
