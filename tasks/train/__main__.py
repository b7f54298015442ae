"""The training process: `python -m tasks.train job.json`."""

import os
import sys
from pathlib import Path

from infra.errors import ProtegeError
from infra.launch import forward_logs, watch_launcher, write_progress
from tasks.train.job import TrainJob
from tasks.train.trainer import train


def main() -> int:
    """Train. An error that the user can repair goes into the progress file as a sentence."""
    job = TrainJob.model_validate_json(Path(sys.argv[1]).read_text())
    progress = Path(job.progress)
    watch_launcher()
    try:
        with forward_logs(progress):
            train(job)
    except (ProtegeError, FloatingPointError, ModuleNotFoundError) as error:
        write_progress(progress, {"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is published, and unloading torch would take another half a second.
    os._exit(status)
