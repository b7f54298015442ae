"""HTTP: whether a server answers."""

import urllib.error
import urllib.request
from http import HTTPStatus

TIMEOUT_SECONDS = 10.0


def answers(url: str) -> bool:
    """Whether a server answers at this address, if only by asking for a password."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < HTTPStatus.INTERNAL_SERVER_ERROR
    except OSError:
        return False
