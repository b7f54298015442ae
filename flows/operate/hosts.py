"""Hosts: the names under which a browser may ask for our pages.

In: the addresses that settings name, and the Host of a request. Out: whether it is one of ours. A
foreign page can give its own name the address of this machine (DNS rebinding), and would then be
shown what is meant for this machine alone; but its requests still carry its name.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost")


def allowed_hosts(addresses: Iterable[str]) -> list[str]:
    """This machine, and the hosts of the addresses, without ports: SSH may forward another one."""
    named = (urlsplit(address).hostname for address in addresses)
    return sorted({*LOOPBACK, *(name for name in named if name)})


def is_allowed(host: str, allowed: Iterable[str]) -> bool:
    """Whether the Host of a request, with or without a port, is one of these."""
    return urlsplit(f"//{host}").hostname in set(allowed)
