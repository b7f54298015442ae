"""News: how much is new in the sources of a campaign, and the runs that wait for the same.

In: two campaigns, or the flow run at work. Out: a number of files; waiting runs are cancelled.
"""

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from infra.store import Store, open_store
from tasks.campaigns import Campaign
from tasks.contract import read_receipt
from tasks.shard import STAGE

WAITING = "AwaitingConcurrencySlot"


def count_new_files(root: Store, before: Campaign, now: Campaign) -> int:
    """The files that the later campaign has pinned and the earlier one has not."""
    count = 0
    for role, snapshot in now.snapshots.items():
        earlier = before.snapshots.get(role)
        same = earlier is not None and earlier.fingerprint == snapshot.fingerprint
        known = set(earlier.increments) if same and earlier is not None else set()
        store = open_store(f"{root.uri}/{STAGE}/{snapshot.fingerprint}")
        new = (name for name in snapshot.increments if name not in known)
        count += sum(read_receipt(store, name).rows_in for name in new)
    return count


def cancel_waiting() -> None:
    """Cancel the runs that wait for this one to do the same: it has not looked at the sources yet.

    So of the events that come during a retraining, one is followed by another run.
    """
    deployment = runtime.deployment.id
    if deployment is None:
        return
    waits = FlowRunFilterState(name=FlowRunFilterStateName(any_=[WAITING]))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
            flow_run_filter=FlowRunFilter(state=waits),
        ):
            if run.parameters == runtime.flow_run.parameters:
                reason = f"run {runtime.flow_run.name} looks at the same sources"
                state: State[None] = Cancelled(message=reason)
                client.set_flow_run_state(run.id, state)
