"""Devices: the cores and GPUs of this machine, and which GPU belongs to this worker."""

import errno
import functools
import hashlib
import itertools
import os
import shutil
import socket
import subprocess
import threading

_rank_lock = threading.Lock()
_rank_claims: list[socket.socket] = []  # open for as long as the process lives


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def gpu_count() -> int:
    """The NVIDIA GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listing = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def worker_gpu() -> int:
    """The index of the GPU that this process computes on, among those that it sees."""
    count = gpu_count()
    return worker_rank() % count if count > 1 else 0


def worker_rank() -> int:
    """The number, from 0, of this Dask worker among those of its machine that see the same GPUs.

    A worker takes the lowest free number and keeps it until its process ends, so a worker that
    replaces a killed one gets its GPU. Names and addresses do not give such a number: names are
    words on SSH and Kubernetes, and a worker may ask before the others have joined. A process that
    is no worker has the number 0.
    """
    from distributed import get_worker

    try:
        scheduler = get_worker().scheduler.address
    except ValueError:
        return 0
    with _rank_lock:
        return _take_rank(scheduler, os.environ.get("CUDA_VISIBLE_DEVICES", ""))


@functools.cache
def _take_rank(scheduler: str, visible_gpus: str) -> int:
    group = hashlib.sha256(f"{scheduler} {visible_gpus}".encode()).hexdigest()[:16]
    for rank in itertools.count():
        claim = socket.socket(socket.AF_UNIX)
        try:
            # An abstract address has no file, and Linux frees it when the process ends.
            claim.bind(f"\0protege-worker-{group}-{rank}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _rank_claims.append(claim)
            return rank
    raise AssertionError("a machine has fewer workers than there are integers")
