"""Environment: settings of Prefect without which it does what users do not want.

In: nothing. Out: environment variables. Set them before Prefect is loaded, which reads them
then.
"""

import os

NO_CALLS_HOME = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

COMMAND_LINE = {
    **NO_CALLS_HOME,
    # The bars say what goes on; the UI has every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}


def prepare_command_line() -> None:
    """Set what a run in a terminal needs of Prefect; what the user has set stays."""
    for variable, value in COMMAND_LINE.items():
        os.environ.setdefault(variable, value)
