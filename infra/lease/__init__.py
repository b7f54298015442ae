"""Leases: who may make a thing now, so that no two runs make it at the same time."""

from infra.lease.lease import HOLDER, Lease, hold_unless

__all__ = [
    "HOLDER",
    "Lease",
    "hold_unless",
]
