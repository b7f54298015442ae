"""The training process: `python -m tasks.train job.json`.

It saves and ends on SIGTERM, on SIGINT, and when its launcher is gone.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pyarrow as pa

from infra.errors import ProtegeError
from infra.launch import forward_logs, remove_job, watch_launcher, write_progress
from infra.stopping import StopRequest
from tasks.train.job import TrainJob
from tasks.train.trainer import train


class _NoPandas(MetaPathFinder):
    """Finds no pandas."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Let the other finders look, but for pandas. Raises ModuleNotFoundError."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def keep_pandas_out() -> None:
    """Let pyarrow find no pandas in this process; `import pandas` works as ever.

    Where pandas is installed, pyarrow loads it when it converts its first list: 0.4 s of every
    training process, which has no use for it.
    """
    sys.meta_path.insert(0, finder := _NoPandas())
    pa.array([0])  # pyarrow looks for it here, and never again
    sys.meta_path.remove(finder)


def main() -> int:
    """Train. An error that the user can repair goes into the progress file as a sentence."""
    job_file = Path(sys.argv[1])
    job = TrainJob.model_validate_json(job_file.read_text())
    stop = StopRequest()
    stop.listen()

    def save_and_end() -> None:
        stop.request()
        remove_job(job_file)

    watch_launcher(save_and_end)
    keep_pandas_out()
    try:
        with forward_logs():
            train(job, stop)
    except (ProtegeError, FloatingPointError, ModuleNotFoundError) as error:
        write_progress({"error": str(error)})
        return 1
    finally:
        # On one of several nodes, the end of the others may be noticed before that of its launcher.
        remove_job(job_file)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is published, and unloading torch would take another half a second.
    os._exit(status)
