"""Ranks: two launched processes that have found the same checkpoint, and then different ones."""

import sys

from infra.errors import ProtegeError
from infra.launch import watch_launcher, write_progress
from tasks.train.world import check_same_step, join_world

watch_launcher()
world = join_world()
check_same_step(400, world.size)
write_progress({"rank": world.rank})
try:
    check_same_step(300 + 100 * world.rank, world.size)
except ProtegeError as error:
    write_progress({"error": str(error)})
    sys.exit(1)
