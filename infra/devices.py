"""Devices: what this machine has to compute with. In: nothing. Out: counts and names."""

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
