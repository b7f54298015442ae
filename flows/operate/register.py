"""Register: registers the catalog with a Prefect server; it may be repeated.

In: the server at PREFECT_API_URL. Out: the work pool, all deployments, the automations. Existing
entries are updated when the catalog has changed; otherwise what people have set in the UI stays as
it is, and schedules and switches always do.
"""

from collections.abc import Iterator
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.operate.automations import automations
from flows.operate.catalog import TIMEZONE, Deployment, deployments
from flows.operate.state import WORK_POOL
from tasks.contract import digest_of


def register(folder: str, notify: str) -> int:
    """Register everything; runs work in `folder`. Returns the number of deployments."""
    count = 0
    with get_client(sync_client=True) as client:
        _save_pool(client)
        for deployment in deployments():
            _save_deployment(client, deployment, folder)
            count += 1
        for automation in automations(client, notify):
            _save_automation(client, automation)
    return count


def _save_pool(client: SyncPrefectClient) -> None:
    template = ProcessWorker.get_default_base_job_template()
    # Runs are flows of ours; whoever may start one need not be able to run any command.
    for part in (template["job_configuration"], template["variables"]["properties"]):
        part.pop("command")
    try:
        pool = WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template)
        client.create_work_pool(pool)
    except ObjectAlreadyExists:
        client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))


def _save_deployment(client: SyncPrefectClient, deployment: Deployment, folder: str) -> None:
    flow = deployment.load()
    found = _find(client, f"{flow.name}/{deployment.name}")
    new = flow.to_deployment(
        name=deployment.name,
        description=deployment.about,
        parameters=dict(deployment.parameters),
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy(deployment.collision)
        ),
        work_pool_name=WORK_POOL,
        job_variables={"working_dir": folder},
        entrypoint_type=EntrypointType.MODULE_PATH,
        schedules=list(_schedules(deployment)),
    )
    new.version = _version(new)
    if found is not None:
        # What is the same in the catalog has only changed by what a user has set in the UI.
        if (found.version, found.work_pool_name) == (new.version, WORK_POOL):
            return
        # A user may have changed the schedules, too; a field that is not set stays as it is.
        new.schedules = None
        new.model_fields_set.discard("schedules")
        new.model_fields_set.discard("paused")
    new.apply()


def _version(deployment: RunnerDeployment) -> str:
    """The digest of what the catalog says of a deployment."""
    values = deployment.model_dump(mode="json", exclude={"version", "schedules", "paused"})
    form = deployment._parameter_openapi_schema.model_dump(mode="json")
    return digest_of([values, form])


def _schedules(deployment: Deployment) -> Iterator[dict[str, Any]]:
    if deployment.cron:
        yield {"schedule": CronSchedule(cron=deployment.cron, timezone=TIMEZONE), "active": False}


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _save_automation(client: SyncPrefectClient, automation: AutomationCore) -> None:
    existing = client.read_automations_by_name(automation.name)
    if existing:
        client.update_automation(existing[0].id, automation)
    else:
        client.create_automation(automation)
