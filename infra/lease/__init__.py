"""Leases: the right to make an output now, so that two runs do not make it at the same time.

lease.py    a lease: acquired, renewed, checked, released
claims.py   the numbered files in which it is stored
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
