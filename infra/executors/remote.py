"""Remote: the Dask scheduler at an address that the settings name.

In: settings. Out: a client of it. Dask's protocol runs what it is sent, so that whoever reads or
writes on the way can do anything: an address without TLS must be of this machine, or be allowed.

    with scheduler_at(settings) as client: ...
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from infra.errors import ProtegeError
from infra.executors.profiling import stop_profiling
from infra.settings import DaskSettings

ENCRYPTED = ("tls", "wss")
# What moves functions between processes, and what changes their results: pixels, too.
PACKAGES = ("numpy", "pyarrow", "torch", "pillow", "simplejpeg")
COMPARED = ("python", "distributed", "cloudpickle", *PACKAGES)
LISTED_DIFFERENCES = 5

logger = logging.getLogger(__name__)


@contextmanager
def scheduler_at(settings: DaskSettings) -> Iterator[Any]:
    """A client of the scheduler. Raises ProtegeError when it cannot be used."""
    from distributed import Client

    check_encrypted(settings)
    try:
        client = Client(settings.address)
    except (OSError, ValueError) as error:
        raise ProtegeError(
            f"no Dask scheduler answers at PROTEGE_DASK__ADDRESS={settings.address}: {error}"
        ) from error
    with client:
        check_versions(client)
        stop_profiling(client)
        if not client.nthreads():
            logger.warning(
                "the Dask scheduler at %s has no workers: work waits until one connects to it",
                settings.address,
            )
        yield client


def check_encrypted(settings: DaskSettings) -> None:
    """Raise ProtegeError for an address that others could read and write along."""
    scheme, found, place = settings.address.partition("://")
    host = urlsplit(f"//{place if found else settings.address}").hostname or ""
    if settings.plain or (found and scheme in ENCRYPTED) or _is_loopback(host):
        return
    raise ProtegeError(
        f"PROTEGE_DASK__ADDRESS={settings.address} has neither encryption nor a password, so that "
        "whoever reaches it, or the way to it, runs commands as you. Use tls:// "
        "(distributed.dask.org, TLS), or set PROTEGE_DASK__PLAIN=true in a network of your own"
    )


def check_versions(client: Any) -> None:
    """Raise ProtegeError when workers have other versions than this process."""
    found = client.get_versions(packages=list(PACKAGES))
    here = _versions(found["client"])
    differences = [
        f"{name} is {there[name]} on {address} and {here[name]} here"
        for address, worker in found["workers"].items()
        for there in [_versions(worker)]
        for name in COMPARED
        if there[name] != here[name]
    ]
    if differences:
        raise ProtegeError(
            f"{'; '.join(differences[:LISTED_DIFFERENCES])}. Functions and results would differ: "
            "install the same versions (constraints.txt) on all machines"
        )


def _versions(machine: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(machine["packages"].get(name)) for name in COMPARED}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
