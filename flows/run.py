"""Run: what the stages of one flow run share: the store, the machines, the campaign, the progress.

In: a recipe and its options. Out: a `Run`, whose campaign is begun or gone on with.

    with open_run("billion-scale", options, {"pile": options.pile}, root) as run: ...
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from infra import campaigns
from infra.campaigns import Campaign
from infra.cluster import Cluster
from infra.errors import ProtegeError
from infra.settings import Settings
from infra.storage import Store, open_store
from tasks.contract import OnProgress, Output, digest_of
from tasks.options import Options, problems
from tasks.shard import ShardOptions, Snapshot, pin

# When the command began, which is before Prefect was up; a run that a worker starts has none.
STARTED: ContextVar[float] = ContextVar("started")

ARTIFACT_SECONDS = 2.0  # an update costs up to 0.1 s of a busy core


class Run:
    """One flow run at work."""

    def __init__(self, store: Store, executor: Cluster, campaign: Campaign, bars: Progress) -> None:
        self.store = store
        self.executor = executor
        self.campaign = campaign
        self._bars = bars

    def snapshot(self, role: str) -> Snapshot:
        """The source of this role as the campaign has pinned it."""
        pinned = dict(self.campaign.snapshots[role])
        pinned["increments"] = tuple(pinned["increments"])
        return Snapshot(uri=f"{self.store.uri}/shard/{pinned['fingerprint']}", **pinned)

    def record(self, role: str, output: Output) -> Output:
        """Note the output of a stage in the campaign."""
        self._save(outputs={**self.campaign.outputs, role: asdict(output)})
        return output

    def pin(self) -> None:
        """The sources are sound: from now on the campaign keeps to these snapshots."""
        self._save(pinned=True)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Note that the campaign is complete."""
        self._save(summary=summary, finished=True)

    def _save(self, **changes: Any) -> None:
        self.campaign = replace(self.campaign, **changes)
        campaigns.save(self.store, self.campaign)

    def outputs(self) -> dict[str, Output]:
        """The outputs so far, by role, in order of run."""
        return {role: Output(**one) for role, one in self.campaign.outputs.items()}

    def progress(self, name: str) -> OnProgress:
        """A bar in the terminal and a progress artifact in the UI."""
        return _Watcher(name, self._bars)


class _Watcher:
    """Turns calls of `on_progress` into a bar and an artifact."""

    def __init__(self, name: str, bars: Progress) -> None:
        self._name = name
        self._bars = bars
        self._bar: TaskID | None = None
        self._artifact: UUID | None = None
        self._started = self._updated = time.monotonic()

    def __call__(self, done: int, total: int, note: str) -> None:
        if self._bar is None:
            self._bar = self._bars.add_task(self._name, total=total or 1, note=note)
        self._bars.update(self._bar, completed=done if total else 1, total=total or 1, note=note)
        now = time.monotonic()
        finished = done == total and self._artifact is not None
        if finished or now - self._updated >= ARTIFACT_SECONDS:
            self._updated = now
            try:
                self._publish(done, total, note)
            except Exception as error:
                # A server that is away for a moment is no reason to stop the work it watches.
                logging.getLogger(__name__).warning("progress of %s: %s", self._name, error)

    def _publish(self, done: int, total: int, note: str) -> None:
        # Imported here: the command line reads campaigns without waiting for Prefect.
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        percent = 100 * done / total if total else 100.0
        rate = done / max(1e-9, time.monotonic() - self._started)
        left = (total - done) / rate if rate else 0.0
        text = f"{self._name}: {done:,} of {total:,}, {rate:,.1f} a second, {left:,.0f} s left. "
        if self._artifact is None:
            created = create_progress_artifact(percent, description=text + note)
            assert isinstance(created, UUID), "outside a coroutine, the call waits for its answer"
            self._artifact = created
        else:
            update_progress_artifact(self._artifact, percent, description=text + note)


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
    settings = Settings()
    store = open_store(root or settings.root)
    campaign = find_campaign(store, recipe, options, sources)
    bars = Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
    with Cluster(settings) as executor, bars:
        yield Run(store, executor, campaign, bars)


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
    # As JSON will give it back, and without the address: a root may be moved.
    plain = {
        role: {**one, "increments": list(one["increments"])} for role, one in snapshots.items()
    }
    for one in plain.values():
        del one["uri"]
    key = digest_of(options.content())[:8]
    return campaigns.begin(store, recipe, options.model_dump(mode="json"), plain, key)
