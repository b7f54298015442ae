"""Automations: what the server does by itself.

In: a client of the server, and perhaps an address to notify. Out: three automations:
a run that has died in silence becomes Crashed, data that arrive start a retraining, and a run that
fails is reported to that address.
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
RETRAIN = "retrain/scheduled"

BEAT = "prefect.flow-run.heartbeat"
ENDS = {
    f"prefect.flow-run.{name}"
    for name in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "Paused")
}
NOTICE = (
    '{"run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}",'
    ' "url": "{{ flow_run|ui_url }}"}'
)


def automations(client: SyncPrefectClient, notify: str) -> Iterator[AutomationCore]:
    """All of them, as they should be."""
    yield zombies(SILENCE_SECONDS)
    yield arrivals(client)
    yield failures(notify)


def zombies(silence_seconds: float) -> AutomationCore:
    """Runs whose processes are gone: a heartbeat, and then neither another nor an end."""
    return AutomationCore(
        name="protege: runs that died in silence",
        description="A run whose heartbeat stops becomes Crashed, and its slot is free again.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={BEAT},
            expect={BEAT, *ENDS},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=silence_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="no sign of life: its processes are gone. Retry goes on where it was",
            )
        ],
    )


def arrivals(client: SyncPrefectClient) -> AutomationCore:
    """Data that arrive in a source start the retraining of what reads it."""
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


def failures(notify: str) -> AutomationCore:
    """Failed and crashed runs are reported to an address, if there is one."""
    action: CallWebhook | DoNothing = DoNothing()
    if notify:
        block = Webhook(method="POST", url=SecretStr(notify), allow_private_urls=True)
        action = CallWebhook(
            block_document_id=block.save(NOTIFY_BLOCK, overwrite=True), payload=NOTICE
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
