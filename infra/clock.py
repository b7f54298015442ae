"""Clock: the time as it is written into files that people read."""

import time


def utc_now() -> str:
    """Now, as `2026-01-31T23:59:59Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
