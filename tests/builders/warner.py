"""Warner: a launched process that warns, as a rank of a training may."""

import os
import sys
import threading
import warnings
from pathlib import Path

from infra.launch import forward_logs, watch_launcher, write_progress

rank = os.environ["RANK"]


def read() -> None:
    warnings.warn("a thread has read something odd", stacklevel=1)


watch_launcher()
with forward_logs():
    if rank == "1":
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    for number in range(500):
        # Long lines of two processes at a time: none may tear another.
        warnings.warn(f"odd thing {number % 30} of {rank} " + "x" * 40, stacklevel=1)
        write_progress({"rank": rank, "number": number, "padding": "y" * 300})
print(f"the last words of {rank}", file=sys.stderr, flush=True)
sys.exit(3 if Path(sys.argv[1]).exists() else 0)
