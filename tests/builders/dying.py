"""Dying: a launched process that is killed, or raises, as the name of its job says."""

import os
import signal
import sys
import time

rank = os.environ["RANK"]
if sys.argv[1].endswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
if rank == "0" and os.environ["WORLD_SIZE"] != "1":
    time.sleep(600)  # torchrun stops it when the other one has failed
if sys.argv[1].endswith("memory"):
    raise MemoryError("no more bytes")
raise ValueError("the picture is too green")
