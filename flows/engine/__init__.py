"""Engine: Prefect while a recipe runs.

A flow that is called without a server starts one of its own, which on a busy machine takes longer
than Prefect waits by default. Prefect reads its settings when it is imported, so the limit is set
here, before a module of this package imports it.
"""

import os
import sys

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "600")
if "prefect" in sys.modules:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
