"""Confine: Prefect's pages ask nobody but their own server.

In: the folder into which the server has copied its pages. Out: the same pages with a
Content-Security-Policy: with analytics off, their script still asks a host of amplitude.com for
its settings (Prefect 3.8).
"""

import os
from pathlib import Path

HEAD = "<head>"
SUPERVISOR_VARIABLE = 'http-equiv="Content-Security-Policy"'


def add_policy(folder: Path, ui: str) -> None:
    """Write the policy into each start page that has none yet; `ui` is the server's address."""
    api = os.environ.get("PREFECT_SERVER_UI_API_URL") or os.environ.get("PREFECT_UI_API_URL", "")
    # Of a websocket, browsers do not agree whether it is of the same origin as its page.
    sources = " ".join(filter(None, ("'self'", "ws:", "wss:", ui, api)))
    policy = f'<meta {SUPERVISOR_VARIABLE} content="connect-src {sources}">'
    for page in folder.glob("*/index.html"):
        text = page.read_text()
        if SUPERVISOR_VARIABLE not in text:
            new = page.with_suffix(".new")
            new.write_text(text.replace(HEAD, HEAD + policy, 1))
            new.replace(page)
