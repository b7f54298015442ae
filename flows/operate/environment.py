"""Environment: the variables of Prefect's processes, each with its reason.

In: the configuration of `protege up`. Out: environment variables. Those that the user has set win,
except the addresses and the password.
"""

import os
from collections.abc import Mapping

from flows.engine.environment import NO_CALLS_HOME
from flows.operate.state import HOST, SUPERVISOR_VARIABLE, ServerConfig, ServerState
from infra.safe_path import SAFE_PATH

HEARTBEAT_SECONDS = 30
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS  # a shorter window marks healthy runs as Crashed

DEFAULTS = {
    **NO_CALLS_HOME,
    # Otherwise the UI shows advertisements.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Otherwise a restart of the server forgets which runs have a slot of a concurrency limit.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Otherwise nothing is deleted, and the lists of the UI become slow.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # The worker looks for runs every two seconds, instead of every ten.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # The default, 0.0.0.0, is open to the network.
    "PREFECT_WORKER_WEBSERVER_HOST": HOST,
    # Otherwise a script on any web page may ask the server for anything, and gets the answer.
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    # Heartbeats distinguish a dead run from a long one.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}


def prefect_environment(state: ServerState, config: ServerConfig) -> dict[str, str]:
    """The environment of the server, the worker and the runs."""
    return {
        **DEFAULTS,
        # The pages ask their own server, so that no other origin is needed.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": config.ui,
        **os.environ,
        **SAFE_PATH,
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
        # Other accounts of this machine reach the port, too.
        "PREFECT_SERVER_API_AUTH_STRING": state.auth(),
        "PREFECT_API_AUTH_STRING": state.auth(),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(state.ui),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(config.port),
        **database,
    }
