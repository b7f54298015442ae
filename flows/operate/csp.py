"""CSP: a Content-Security-Policy, so that Prefect's pages send requests to their own server only.

In: the folder into which the server has copied its pages. Out: the same pages with the policy. It
is needed because their script requests its settings from a host of amplitude.com even when
analytics are off (Prefect 3.8).
"""

import os
from pathlib import Path

HEAD_TAG = "<head>"
POLICY_ATTRIBUTE = 'http-equiv="Content-Security-Policy"'


def add_policy(folder: Path, ui: str) -> None:
    """Add the policy to each start page that has none yet; `ui` is the server's address."""
    api = os.environ.get("PREFECT_SERVER_UI_API_URL") or os.environ.get("PREFECT_UI_API_URL", "")
    # Browsers differ in whether a websocket has the same origin as its page.
    sources = " ".join(filter(None, ("'self'", "ws:", "wss:", ui, api)))
    policy = f'<meta {POLICY_ATTRIBUTE} content="connect-src {sources}">'
    for page in folder.glob("*/index.html"):
        text = page.read_text()
        if POLICY_ATTRIBUTE not in text:
            new = page.with_suffix(".new")
            new.write_text(text.replace(HEAD_TAG, HEAD_TAG + policy, 1))
            new.replace(page)
