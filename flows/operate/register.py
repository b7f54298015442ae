"""Register: puts the catalog into a Prefect server, as often as one likes.

In: the server at PREFECT_API_URL. Out: the work pool, all deployments, the automations. What is
there is brought up to date; schedules and switches that people have set in the UI stay as they are.
"""

from collections.abc import Iterator
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from flows.operate.automations import automations
from flows.operate.catalog import TIMEZONE, Deployment, deployments
from flows.operate.supervisor import POOL


def register(folder: str, notify: str) -> int:
    """Register everything; runs work in `folder`. Returns the number of deployments."""
    count = 0
    with get_client(sync_client=True) as client:
        _pool(client)
        for deployment in deployments():
            _register(client, deployment, folder)
            count += 1
        for automation in automations(client, notify):
            _automation(client, automation)
    return count


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return


def _register(client: SyncPrefectClient, deployment: Deployment, folder: str) -> None:
    flow = deployment.load()
    first = _is_new(client, f"{flow.name}/{deployment.name}")
    described = flow.to_deployment(
        name=deployment.name,
        description=deployment.about,
        parameters=dict(deployment.parameters),
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy(deployment.collision)
        ),
        work_pool_name=POOL,
        job_variables={"working_dir": folder},
        entrypoint_type=EntrypointType.MODULE_PATH,
        schedules=list(_schedules(deployment)),
    )
    if not first:
        # They are the user's by now, paused or changed in the UI; what is not set is left alone.
        described.schedules = None
        described.model_fields_set.discard("schedules")
    described.apply()


def _schedules(deployment: Deployment) -> Iterator[dict[str, Any]]:
    if deployment.cron:
        yield {"schedule": CronSchedule(cron=deployment.cron, timezone=TIMEZONE), "active": False}


def _is_new(client: SyncPrefectClient, name: str) -> bool:
    try:
        client.read_deployment_by_name(name)
    except ObjectNotFound:
        return True
    return False


def _automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    known = client.read_automations_by_name(wanted.name)
    if known:
        client.update_automation(known[0].id, wanted)
    else:
        client.create_automation(wanted)
