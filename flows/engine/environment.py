"""Environment: settings of Prefect without which it does what users do not want.

In: nothing. Out: environment variables. Set them before Prefect is loaded, which reads them
then.
"""

import os

NO_CALLS_HOME = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

IN_PROCESS_API = {
    **NO_CALLS_HOME,
    # The default of 20 s is too short for a new database on a busy laptop.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600",
    # The bars say what goes on; the UI has every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}


def prepare_in_process_api() -> None:
    """Set what a run without a server needs of Prefect; what the user has set stays."""
    for variable, value in IN_PROCESS_API.items():
        os.environ.setdefault(variable, value)
