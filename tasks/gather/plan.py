"""Plan: into how many parts the lessons are cut, and which source shards a task reads together.

In: how many lessons each source shard has. Out: the plan, which every task reads. It is small: what
is of the size of the lessons is in taken.py, and a task reads its own share of that.

A lesson goes to the part that the hash of its image and class says, so that parts are random draws
of about one size, and nobody has to know all lessons to find the part of one. Where there are many
parts, lessons come to them in two exchanges of bounded width instead of one: first to a bucket of
neighbouring parts, then to the part.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from infra.store import Store, open_store
from tasks.contract import Output, canonical, part_number
from tasks.gather.options import GatherOptions
from tasks.pieces import pieces
from tasks.shard import IMAGE_BYTES

MAX_FAN_OUT = 256
"""Parts up to which one exchange is enough."""
SPILL_BYTES = 96 << 20
SPILL_LESSONS = 250_000
SPILL_SHARDS = 1_000  # each is a footer to read, so that many of few lessons go to many workers
# Of images in memory, before they are written: a spill, also where its images are larger than most.
ROUND_BYTES = 128 << 20
TWO_EXCHANGES = 4
"""So many times as large are spills and rounds of many parts: their segments would be short, and so
their requests many. For a billion images there are 6 million.
"""
SPILLS = "spills"
PLAN = f"{SPILLS}/plan.json"


@dataclass(frozen=True)
class Plan:
    """The parts, the buckets that they are in, and the source shards of each spill."""

    num_parts: int
    num_buckets: int
    groups: Sequence[Sequence[int]]

    @property
    def round_bytes(self) -> int:
        """The bytes of images that a task has in memory before it writes them."""
        return ROUND_BYTES if self.is_direct else TWO_EXCHANGES * ROUND_BYTES

    @property
    def is_direct(self) -> bool:
        """Whether every bucket is a part."""
        return self.num_buckets == self.num_parts

    @property
    def block_size(self) -> int:
        """How many spills a merge reads."""
        return math.ceil(math.sqrt(len(self.groups)))

    @property
    def num_blocks(self) -> int:
        """How many merges there are of each bucket."""
        return 0 if self.is_direct else -(-len(self.groups) // self.block_size)

    def part_of(self, order_N: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The part of each lesson, by its hash."""
        high, bits = order_N >> np.uint64(32), np.uint64(32)
        return ((high * np.uint64(self.num_parts)) >> bits).astype(np.int64)

    def bucket_of(self, parts_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The bucket of each part."""
        return parts_N * self.num_buckets // self.num_parts


def make_plan(lessons_of: Mapping[int, int], images: Output, options: GatherOptions) -> Plan:
    """The plan for so many lessons of each source shard."""
    means = {
        part_number(part["name"]): int(part["facts"][IMAGE_BYTES]) / max(part["kept"], 1)
        for part in images.body["parts"]
    }
    num_bytes = {shard: math.ceil(means[shard] * count) for shard, count in lessons_of.items()}
    num_parts = _count_parts(sum(lessons_of.values()), sum(num_bytes.values()), options)
    is_direct = num_parts <= MAX_FAN_OUT
    groups = pieces(
        sorted(lessons_of),
        lambda shard: max(num_bytes[shard], lessons_of[shard] * (SPILL_BYTES // SPILL_LESSONS)),
        SPILL_SHARDS,
        SPILL_BYTES if is_direct else TWO_EXCHANGES * SPILL_BYTES,
    )
    num_buckets = num_parts if is_direct else math.ceil(math.sqrt(num_parts))
    return Plan(num_parts, num_buckets, list(groups))


def _count_parts(lessons: int, num_bytes: int, options: GatherOptions) -> int:
    by_number = -(-lessons // options.lessons_per_part)
    by_bytes = -(-num_bytes // (options.mib_per_part << 20))
    return max(1, by_number, min(by_bytes, lessons))


def publish_plan(store: Store, plan: Plan) -> None:
    """Publish the plan for the tasks of this output."""
    store.replace(PLAN, canonical(asdict(plan)).encode())


@functools.lru_cache(maxsize=4)
def read_plan(uri: str) -> Plan:
    """The plan of the output in this folder."""
    return Plan(**json.loads(open_store(uri).read(PLAN)))
