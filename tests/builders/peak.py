"""Peak: how much memory it takes to look at images, measured in a process of its own.

In: encoded images. Out: for each what `check` and `decode` made of it, and by how many MiB the
process grew meanwhile. Libraries allocate outside of Python, so the operating system is asked; and
memory that a test has freed before would hide it, so the images are looked at in a fresh process.

    for found in peaks([b"GIF89a..."], max_pixels=1_000_000): found.check, found.decode, found.mib
"""

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tasks.images import Limits, Unusable, check, decode

WARM_UP = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")


@dataclass(frozen=True)
class Peak:
    """The reasons, or "" for an image that can be used, and the growth."""

    check: str
    decode: str
    mib: float


def peaks(images: Sequence[bytes], max_pixels: int) -> list[Peak]:
    """What becomes of these images, one after the other."""
    command = [sys.executable, "-m", "tests.builders.peak"]
    job = pickle.dumps((list(images), max_pixels))
    done = subprocess.run(command, input=job, stdout=subprocess.PIPE, check=True)
    return [Peak(*figures) for figures in json.loads(done.stdout)]


def _outcome(look: object, data: bytes, limits: Limits) -> str:
    try:
        look(data, limits)  # type: ignore[operator]
    except Unusable as unusable:
        return unusable.reason
    return ""


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def peak_mib() -> float:
    """The most that was used since the peak was forgotten."""
    return _status_mib("VmHWM")


def forget_peak() -> float:
    """MiB; what is used now; the peak is counted anew from here on (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def main() -> None:
    """The process that is measured."""
    images, max_pixels = pickle.loads(sys.stdin.buffer.read())
    for kind in WARM_UP:  # codecs and threads are there from now on
        sink = io.BytesIO()
        Image.new("RGB", (64, 64)).save(sink, kind)
        decode(sink.getvalue(), Limits())
    found = []
    for data in images:
        before = forget_peak()
        looks = [_outcome(look, data, Limits(max_pixels)) for look in (check, decode)]
        found.append((*looks, peak_mib() - before))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
