"""Devices: what this machine has to compute with, and which GPU belongs to this worker."""

import functools
import os
import shutil
import subprocess


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


@functools.cache
def worker_gpu() -> int:
    """The index of the GPU that this process uses: its place among the workers of its machine.

    Names of workers are words on some clusters, so the scheduler is asked who else works here. A
    process that is no Dask worker, and one that is shown a single GPU, use the first.
    """
    count = gpu_count()
    if count <= 1:
        return 0
    return worker_rank() % count


def worker_rank() -> int:
    """The place of this Dask worker among those of its machine, from 0; 0 for other processes."""
    from distributed import get_client, get_worker

    try:
        worker = get_worker()
    except ValueError:
        return 0
    workers = get_client().scheduler_info(n_workers=-1)["workers"]
    host = workers[worker.address]["host"]
    return sorted(name for name, info in workers.items() if info["host"] == host).index(
        worker.address
    )
