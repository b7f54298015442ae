"""Probe: whether a store can refuse the second of two writers.

In: the root of a run. Out: nothing, or a ProtegeError. Leases and pins are objects that only one of
several writers creates (`If-None-Match: *` on S3). A store that ignores this gives a lease to two
and pins a source twice, in silence. A local disk says so itself.
"""

from infra.errors import ProtegeError
from infra.store.address import Address
from infra.store.base import Store

PROBE = "leases/probe-create-only"


def check_create_only(root: Store) -> None:
    """Raise ProtegeError for a store that replaces what it was asked only to create."""
    if not Address(root.uri).is_s3:
        return
    # Where the first one is refused, the object of an earlier probe is there, and all is well.
    if root.create(PROBE, b"") and root.create(PROBE, b""):
        root.delete(PROBE)
        raise ProtegeError(
            f"{root.uri} lies in a store that ignores `If-None-Match: *`, by which one of two "
            "writers is refused, so that two runs would make the same output at once and pin a "
            "source twice. Choose another root: AWS, or a store with conditional writes (MinIO, "
            "Ceph and R2 have them in present versions)"
        )
