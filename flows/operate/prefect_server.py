"""Prefect server: Prefect's own, for requests that name this machine.

In: a port, and the environment of flows/operate/environment.py. Out: the API and the UI on
loopback. `prefect server start` does the same, but answers under every name (flows/operate/hosts).

    python -m flows.operate.prefect_server 4200
"""

import os
import sys

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.operate.hosts import allowed_hosts
from flows.operate.state import HOST, UI_API_VARIABLES


def main() -> None:
    """Serve until the supervisor stops this process."""
    api = get_current_settings().server.api
    hosts = allowed_hosts(os.environ.get(variable, "") for variable in UI_API_VARIABLES)
    app = TrustedHostMiddleware(create_app(final=True), hosts, www_redirect=False)
    uvicorn.run(
        app,
        host=HOST,
        port=int(sys.argv[1]),
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
