"""Runs: flow runs of a Prefect server: submit one, retry one, find those at work.

In: the server at PREFECT_API_URL, and names. Out: the run's name and its page.
"""

from collections.abc import Mapping
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
from infra.errors import ProtegeError
from infra.store import open_store

AT_WORK = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]


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
    """What Retry in the UI does, for a run by its name or id. Raises ProtegeError."""
    with get_client(sync_client=True) as client:
        run = _find(client, name)
        if run.state is None or not run.state.is_final():
            state = run.state.name if run.state else "unknown"
            raise ProtegeError(
                f"run {run.name} is {state}; only a run that has ended can be retried"
            )
        if run.deployment_id is None:
            raise ProtegeError(
                f"run {run.name} was started in a terminal, so no worker can retry it: "
                "`protege resume CAMPAIGN` goes on with its campaign"
            )
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
        return run


def page_of(run: FlowRun) -> str:
    """The address of a run's page in the UI."""
    return f"{get_current_settings().ui_url}/v2/runs/flow-run/{run.id}"


def at_work() -> list[FlowRun]:
    """The runs whose processes may be alive."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=_in_states(AT_WORK), limit=200)


def mark_crashed(message: str) -> None:
    """Give the runs at work an end, when their processes have been ended."""
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=_in_states(AT_WORK), limit=200):
            if run.deployment_id is not None:
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def announce(source: str) -> str:
    """Tell the server that a source has grown; returns the source as campaigns know it."""
    place = open_store(source).uri
    emit_event(
        ARRIVED,
        resource={"prefect.resource.id": f"protege.source.{place}"},
        payload={"source": place},
    )
    return place


def _in_states(types: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))


def _find(client: SyncPrefectClient, name: str) -> FlowRun:
    runs = client.read_flow_runs(
        flow_run_filter=_called(name), sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1
    )
    if not runs:
        raise ProtegeError(
            f"neither a campaign in this root nor a run of the server is called {name!r}"
        )
    return runs[0]


def _called(name: str) -> FlowRunFilter:
    try:
        return FlowRunFilter(id=FlowRunFilterId(any_=[UUID(name)]))
    except ValueError:
        return FlowRunFilter(name=FlowRunFilterName(any_=[name]))
