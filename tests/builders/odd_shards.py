"""Odd shards: work for a worker that warns, fails, or kills its process on the way."""

import logging
import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from infra.store import open_store
from tasks.contract import PartId, Receipt, RowCounts, part_name, write_part

SCHEMA = pa.schema([("number", pa.int64())])


@dataclass(frozen=True)
class OddShard:
    """Makes a part and warns on the way, in a worker."""

    uri: str
    warnings: int = 1
    failing: frozenset[int] = frozenset()
    killing: str = ""

    def __call__(self, part: PartId) -> Receipt:
        if self.killing and not Path(self.killing).exists():
            Path(self.killing).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for which in range(self.warnings):
            warnings.warn(f"odd thing {which}", stacklevel=1)
        logging.getLogger("distributed.utils_perf").warning("full garbage collections took long")
        if part.number in self.failing:
            raise ValueError(f"the disk of {part.number}\nis gone")
        table = pa.table({"number": [part.number]}, schema=SCHEMA)
        return write_part(open_store(self.uri), part_name(part.number), table, RowCounts(1, 1, 0))
