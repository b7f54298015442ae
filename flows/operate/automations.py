"""Automations: what the server does by itself.

In: a client of the server, and perhaps an address to notify. Out: three automations. They mark a
run without heartbeats as Crashed, start a retraining when data arrive, and notify the address of
runs that failed.
"""

from collections.abc import Iterator
from datetime import timedelta

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from flows.operate.environment import SILENCE_SECONDS

ARRIVED = "data.arrived"
NOTIFY_BLOCK = "protege-notify"
RETRAIN = "retrain/arrived"

HEARTBEAT = "prefect.flow-run.heartbeat"
END_EVENTS = {
    f"prefect.flow-run.{name}"
    for name in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "Paused")
}
NOTIFICATION = (
    '{"run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}",'
    ' "url": "{{ flow_run|ui_url }}"}'
)


def automations(client: SyncPrefectClient, notify: str) -> Iterator[AutomationCore]:
    """All automations, as they should be on the server."""
    yield mark_silent_runs(SILENCE_SECONDS)
    yield retrain_on_arrival(client)
    yield notify_of_failures(notify)


def mark_silent_runs(silence_seconds: float) -> AutomationCore:
    """Mark runs as Crashed after a heartbeat that neither another one nor an end has followed."""
    return AutomationCore(
        name="protege: runs that died in silence",
        description="A run whose heartbeat stops becomes Crashed, and its slot is free again.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={HEARTBEAT},
            expect={HEARTBEAT, *END_EVENTS},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=silence_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="no heartbeat: its processes are gone. Retry continues where it was",
            )
        ],
    )


def retrain_on_arrival(client: SyncPrefectClient) -> AutomationCore:
    """Start the retraining of the campaigns that read a source in which data have arrived."""
    retrain = client.read_deployment_by_name(RETRAIN)
    return AutomationCore(
        name="protege: data arrived",
        description=f"The event {ARRIVED} (`protege arrived SOURCE`) starts {RETRAIN}.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={ARRIVED},
            match=ResourceSpecification({"prefect.resource.id": "protege.source.*"}),
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=retrain.id,
                parameters={"source": "{{ event.payload.source }}"},
            )
        ],
    )


def notify_of_failures(notify: str) -> AutomationCore:
    """Notify the address, if there is one, of failed and crashed runs."""
    action: CallWebhook | DoNothing = DoNothing()
    if notify:
        block = Webhook(method="POST", url=SecretStr(notify), allow_private_urls=True)
        action = CallWebhook(
            block_document_id=block.save(NOTIFY_BLOCK, overwrite=True), payload=NOTIFICATION
        )
    return AutomationCore(
        name="protege: runs that failed",
        description="Notifies the address PROTEGE_SERVER__NOTIFY; off while there is none.",
        enabled=bool(notify),
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[action],
    )
