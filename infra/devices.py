"""Devices: the cores and GPUs of this machine, and which GPU belongs to this worker."""

import errno
import functools
import hashlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from infra.errors import ProtegeError
from infra.safe_path import SAFE_PATH

# NVIDIA on Linux, in a container and under WSL; AMD.
QUESTION = """
import torch
for gpu in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_properties(gpu).total_memory)
"""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")

_rank_lock = threading.Lock()
_rank_claims: list[socket.socket] = []  # open for as long as the process lives


def core_count() -> int:
    """The cores that this process may use: its affinity, and the quota of its container."""
    # Imported here: it takes 0.2 s, and only work needs the number.
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))


def memory_limit() -> int:
    """The bytes of memory that this process may use: of the machine, or of its container."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def gpu_count() -> int:
    """The GPUs that networks compute on here: those that torch can use, unless the setting forbids.

    Raises ProtegeError when the setting `device` asks for one and there is none.
    """
    # Imported here: settings count devices.
    from infra.settings import Settings

    device = Settings().device
    count = 0 if device == "cpu" else _usable_gpus()
    if device == "cuda" and not count:
        raise ProtegeError(
            "PROTEGE_DEVICE=cuda asks for a GPU, and torch can use none on this machine: install a "
            "driver and a build of torch with CUDA, or set PROTEGE_DEVICE=auto"
        )
    return count


def _usable_gpus() -> int:
    """The GPUs that torch can use here; without any device of a driver, torch is not asked."""
    if not any(Path(device).exists() for device in GPU_DEVICES):
        return 0
    if "torch" in sys.modules:
        import torch

        return torch.cuda.device_count()
    return len(_ask_torch(os.environ.get("CUDA_VISIBLE_DEVICES")))


def gpu_memory() -> int:
    """The bytes of memory of the smallest GPU that torch can use here; 0 without one."""
    return min(_ask_torch(os.environ.get("CUDA_VISIBLE_DEVICES")), default=0)


@functools.cache
def _ask_torch(_visible_gpus: str | None) -> list[int]:
    """The memory of each GPU, asked in a child: here, torch would take seconds, and a context."""
    command = [sys.executable, "-c", QUESTION]
    environment = {**os.environ, **SAFE_PATH}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return [int(line) for line in answer.stdout.split()] if answer.returncode == 0 else []


def worker_gpu() -> int:
    """The index of the GPU that this process computes on, among those that it sees.

    Raises ProtegeError when other workers have them all: two on one GPU would take turns, and each
    its share of the memory.
    """
    count, rank = gpu_count(), worker_rank()
    if rank >= count:
        raise ProtegeError(
            f"{rank + 1} workers of this machine compute on {count} GPUs: start one worker for "
            f"each GPU (dask worker --nworkers {count}), or set PROTEGE_DEVICE=cpu"
        )
    return rank


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
