"""HTTP: whether a server answers."""

import urllib.error
import urllib.request


def answers(url: str, timeout_seconds: float = 10) -> bool:
    """Whether somebody answers there; a refusal is an answer, too: it may want to know who asks."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
