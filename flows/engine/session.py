"""Session: what one flow run needs from its first stage to its last.

In: a root, and, for a recipe, its campaign. Out: a `PrefectRun` with the machines; at the end they
are stopped, and the server knows of everything.

    with open_session(root, campaign) as run: ...
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import runtime

from flows.engine.logs import in_run_log
from flows.engine.progress import Progress
from flows.engine.run import PrefectRun
from flows.engine.server import wait_for_server_on_exit
from infra.executors import open_executor
from infra.lease import HOLDER
from infra.settings import Settings
from infra.store import open_store
from tasks.campaigns import Campaign


@contextmanager
def open_session(root: str = "", campaign: Campaign | None = None) -> Iterator[PrefectRun]:
    """Lend out the store and the machines; an empty root takes PROTEGE_ROOT. Inside a flow."""
    settings = Settings()
    store = open_store(root or settings.root)
    holder = HOLDER.set(f"run {runtime.flow_run.name}")
    try:
        # From the inside: stop the machines, wait until the server hears, send it the rest.
        with (
            in_run_log(),
            Progress() as progress,
            wait_for_server_on_exit(settings.server.wait_seconds),
            open_executor(settings) as executor,
        ):
            yield PrefectRun(store, executor, campaign=campaign, watch=progress.watch)
    finally:
        HOLDER.reset(holder)
