"""Log files: what the server's processes print, which must not fill the disk in a year.

In: the folder of the logs. Out: none of them is larger than the limit, and beside each one that
was is its last part, as `server.log.1`.
"""

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 16 << 20  # days of a busy server; two files of each process


def cap_logs(folder: Path) -> None:
    """Move what is in too large logs aside. Their writers keep them open, and must append.

    A line that is written between the copy and the cut is lost: of a log, and once in days.
    """
    for path in folder.glob("*.log"):
        if path.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)
