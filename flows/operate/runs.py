"""Runs: submit, retry and find flow runs of a Prefect server.

In: the server at PREFECT_API_URL, and names. Out: flow runs, and the address of a run's page.
"""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Crashed

from flows.operate.automations import ARRIVED
from flows.operate.state import WORK_POOL, worker_name
from infra.errors import ProtegeError
from infra.store import open_store

# States in which the processes of a run may be alive.
ACTIVE_STATES = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
MAX_RUNS = 200


def submit(deployment: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Start a run of a deployment, by the name `flow/deployment`. Raises ProtegeError."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            raise ProtegeError(
                f"the server has no deployment {deployment!r}: `protege up` registers them "
                "all, and `prefect deployment ls` lists them"
            ) from None
        try:
            return client.create_flow_run_from_deployment(found.id, parameters=dict(parameters))
        except PrefectHTTPStatusError as error:
            raise ProtegeError(f"{deployment} was refused: {error.response.text}") from None


def retry(name: str) -> FlowRun:
    """Retry a run, by its name or id, as the UI does. Raises ProtegeError."""
    with get_client(sync_client=True) as client:
        run = _find_run(client, name)
        if run.state is None or not run.state.is_final():
            state = run.state.name if run.state else "unknown"
            raise ProtegeError(
                f"run {run.name} is {state}; only a run that has ended can be retried"
            )
        if run.deployment_id is None:
            raise ProtegeError(
                f"run {run.name} was started in a terminal, so no worker can retry it: "
                "`protege resume CAMPAIGN` continues its campaign"
            )
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
        return run


def run_url(run: FlowRun) -> str:
    """The address of a run's page in the UI."""
    return f"{get_current_settings().ui_url}/v2/runs/flow-run/{run.id}"


def active_runs() -> list[FlowRun]:
    """The runs whose processes may be alive."""
    with get_client(sync_client=True) as client:
        return _active_runs(client)


def mark_crashed(message: str, stopped: Collection[str]) -> None:
    """Mark the runs as Crashed whose processes were stopped, by their ids.

    Where no worker of another machine is online, also those of the pool that have no process yet,
    or whose process had died before: nobody else would.
    """
    with get_client(sync_client=True) as client:
        alone = not _other_workers(client)
        for run in _active_runs(client):
            if str(run.id) in stopped or (alone and run.work_pool_name == WORK_POOL):
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def _other_workers(client: SyncPrefectClient) -> list[str]:
    """The workers of the pool that are online, but for that of this machine."""
    workers = client.read_workers_for_work_pool(WORK_POOL)
    online = [worker.name for worker in workers if worker.status == "ONLINE"]
    return [name for name in online if name != worker_name()]


def emit_arrival(source: str) -> str:
    """Emit the event that a source has grown; returns its address as campaigns have it."""
    uri = open_store(source).uri
    emit_event(
        ARRIVED, resource={"prefect.resource.id": f"protege.source.{uri}"}, payload={"source": uri}
    )
    return uri


def _active_runs(client: SyncPrefectClient) -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE_STATES))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states), limit=MAX_RUNS)


def _find_run(client: SyncPrefectClient, name: str) -> FlowRun:
    runs = client.read_flow_runs(
        flow_run_filter=_by_name_or_id(name), sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
    )
    if not runs:
        raise ProtegeError(
            f"neither a campaign in this root nor a run of the server has the name {name!r}"
        )
    return runs[0]


def _by_name_or_id(name: str) -> FlowRunFilter:
    try:
        return FlowRunFilter(id=FlowRunFilterId(any_=[UUID(name)]))
    except ValueError:
        return FlowRunFilter(name=FlowRunFilterName(any_=[name]))
