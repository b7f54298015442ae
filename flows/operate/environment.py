"""Environment: the variables of Prefect's processes, each setting with its reason.

In: the configuration of `protege up`. Out: environment variables. A variable that the user has set
wins, but for the addresses.
"""

import os
from collections.abc import Mapping

from flows.engine.environment import NO_CALLS_HOME
from flows.operate.state import HOST, SUPERVISOR_VARIABLE, ServerConfig, ServerState

HEARTBEAT_SECONDS = 30
# Three beats: a shorter window takes healthy runs for dead.
SILENCE_SECONDS = 90

DEFAULTS = {
    **NO_CALLS_HOME,
    # No advertisement.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Slots of concurrency limits survive a restart of the server.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Nothing is deleted by default, and lists grow slow.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # From Submit to the first stage in seconds; the default polls every ten.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # The default, 0.0.0.0, is open to the network.
    "PREFECT_WORKER_WEBSERVER_HOST": HOST,
    # By heartbeats a dead run is known from a long one.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}


def prefect_environment(state: ServerState, config: ServerConfig) -> dict[str, str]:
    """The environment of the server, the worker and all that the worker runs."""
    return {
        **DEFAULTS,
        **os.environ,
        **_addresses(state, config),
        "PROTEGE_SERVER__HOME": str(state.folder),
        "PROTEGE_ROOT": config.root,
        "PROTEGE_SERVER__REPORTS_URL": config.reports,
        SUPERVISOR_VARIABLE: str(state.folder),
    }


def _addresses(state: ServerState, config: ServerConfig) -> Mapping[str, str]:
    database = {}
    if config.database:
        database["PREFECT_API_DATABASE_CONNECTION_URL"] = config.database
    return {
        "PREFECT_HOME": str(state.prefect),
        "PREFECT_API_URL": config.api,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(state.ui),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(config.port),
        **database,
    }
