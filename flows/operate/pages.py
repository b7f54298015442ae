"""Pages: what Prefect's pages get before their own script runs: a policy, and the password.

In: the folder into which the server has copied its pages. Out: the same pages, which then

- send requests to their own server only (a Content-Security-Policy), because their script requests
  its settings from a host of amplitude.com even when analytics are off (Prefect 3.8);
- take the password from the link that `protege up` prints. It stands behind the `#`, which a
  browser sends to nobody, and is kept where Prefect's pages keep a password that was typed. That
  belongs to this port; a cookie would be sent to every port of this machine, also to another
  account's. The pages themselves have no secret, for everybody on this machine can ask for them.
"""

import os
from pathlib import Path

from flows.operate.state import LOGIN, UI_API_VARIABLES

HEAD_TAG = "<head>"
POLICY_ATTRIBUTE = 'http-equiv="Content-Security-Policy"'
LOGIN_SCRIPT = (
    f"<script>if(location.hash.startsWith('{LOGIN}')){{"
    f"localStorage.setItem('prefect-password',location.hash.slice({len(LOGIN)}));"
    "history.replaceState(null,'',location.pathname+location.search)}</script>"
)


def prepare_pages(folder: Path, ui: str) -> None:
    """Prepare each start page that is not prepared yet; `ui` is the server's address."""
    apis = (os.environ.get(variable, "") for variable in UI_API_VARIABLES)
    # Browsers differ in whether a websocket has the same origin as its page.
    sources = " ".join(filter(None, ("'self'", "ws:", "wss:", ui, next(filter(None, apis), ""))))
    policy = f'<meta {POLICY_ATTRIBUTE} content="connect-src {sources}">'
    for page in folder.glob("*/index.html"):
        text = page.read_text()
        if POLICY_ATTRIBUTE not in text:
            new = page.with_suffix(".new")
            new.write_text(text.replace(HEAD_TAG, HEAD_TAG + policy + LOGIN_SCRIPT, 1))
            new.replace(page)
