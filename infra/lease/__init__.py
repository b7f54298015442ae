"""Leases: who may make a thing now, so that no two runs make it at the same time.

lease.py    a lease: acquired, renewed, checked, released
claims.py   the numbered files that it consists of
process.py  which process has it, and whether that one has ended
"""

from infra.lease.claims import Claim, Claims
from infra.lease.lease import HOLDER, Lease, LeaseLost, acquire
from infra.lease.process import ProcessId, stop_processes

__all__ = [
    "HOLDER",
    "Claim",
    "Claims",
    "Lease",
    "LeaseLost",
    "ProcessId",
    "acquire",
    "stop_processes",
]
