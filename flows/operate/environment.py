"""Environment: what Prefect's processes are told, each setting with its reason.

In: what `protege up` was asked for. Out: environment variables. A variable that the user has set
wins, but for the addresses.
"""

import os
from collections.abc import Mapping

from flows.operate.state import HOST, MARK, Asked, Home

HEARTBEAT_SECONDS = 30
# Three beats: a shorter window takes healthy runs for dead.
SILENCE_SECONDS = 90

NO_CALLS_HOME = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

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
    # From Submit to the first stage in seconds; the default looks every ten.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # The default, 0.0.0.0, is open to the network.
    "PREFECT_WORKER_WEBSERVER_HOST": HOST,
    # By heartbeats a dead run is known from a long one.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}


def prefect_environment(home: Home, asked: Asked) -> dict[str, str]:
    """The environment of the server, the worker and all that the worker runs."""
    return {
        **DEFAULTS,
        **os.environ,
        **_addresses(home, asked),
        "PROTEGE_HOME": str(home.folder),
        "PROTEGE_ROOT": asked.root,
        "PROTEGE_PAGES": asked.pages,
        MARK: str(home.folder),
    }


def _addresses(home: Home, asked: Asked) -> Mapping[str, str]:
    database = {}
    if asked.database:
        database["PREFECT_API_DATABASE_CONNECTION_URL"] = asked.database
    return {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_API_URL": asked.api,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.ui),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(asked.port),
        **database,
    }
