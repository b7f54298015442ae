"""Compiling: whether compiling a network pays, as a measurement says, which is kept.

In: how long a pass takes before and after, and how many are left. Out: the decision. Whoever passes
images through a network asks: a training (tasks/train/compiling.py) and what only looks at images
(tasks/inference/fastest.py).
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.store import open_store
from tasks.contract import bytes_digest
from tasks.options import CompileChoice

MARGIN = 2.0  # so many times its cost is what compiling must gain, because machines are shared
# As bounds, so that nothing is compiled to measure it where few passes are left.
MOST_GAIN = 0.5  # of the time of a pass
LEAST_COST_SECONDS = 20.0
WARMING_PASSES, TIMED_PASSES = 3, 10
CANNOT = "the network is not compiled, because torch cannot"


@dataclass(frozen=True)
class PassSeconds:
    """How long a forward and a backward pass takes, and compiling it."""

    eager: float
    compiled: float
    compiling: float

    def pays(self, passes: int) -> bool:
        """Whether so many passes gain clearly more than compiling costs."""
        return (self.eager - self.compiled) * passes > MARGIN * self.compiling

    def describe(self, passes: int) -> str:
        """The figures in words."""
        gained = (self.eager - self.compiled) * passes
        change = f"{abs(gained):,.0f} s {'less' if gained > 0 else 'more'}"
        return (
            f"{passes:,} passes of {1000 * self.eager:.1f} ms would be of "
            f"{1000 * self.compiled:.1f} ms, which is {change} in all, and compiling "
            f"takes {self.compiling:,.0f} s"
        )


def is_wanted(
    choice: CompileChoice, device: str, kept: bool | None, pays: Callable[[], bool]
) -> bool:
    """Whether to compile; `pays` is only asked where neither options nor a checkpoint say it."""
    if choice != "auto":
        return choice == "always"
    # On a CPU, compiling takes longer than it gains.
    if device != "cuda":
        return False
    return pays() if kept is None else kept


def measure_passes(
    run: Callable[[int], float], compile_network: Callable[[], None], left: int
) -> PassSeconds | None:
    """Measure so many passes, of which `run` returns the seconds of one, before and after.

    None where so few passes are left that compiling cannot pay.
    """
    run(WARMING_PASSES)
    eager = run(TIMED_PASSES)
    if MOST_GAIN * eager * left < MARGIN * LEAST_COST_SECONDS:
        return None
    compile_network()
    compiling = run(1)
    run(WARMING_PASSES)
    return PassSeconds(eager, run(TIMED_PASSES), compiling)


def kept_seconds(
    kind: str, key: Mapping[str, object], measure: Callable[[], PassSeconds | None]
) -> PassSeconds | None:
    """What was measured on this machine before for such a key, or else now, which is kept."""
    store = open_store(str(cache_folder() / kind))
    name = f"{bytes_digest(json.dumps(key, sort_keys=True).encode())}.json"
    # What cannot be read is measured again.
    with suppress(OSError, ValueError, KeyError, TypeError):
        return PassSeconds(**json.loads(store.read(name))["seconds"])
    if (seconds := measure()) is not None:
        with suppress(OSError):
            store.replace(name, json.dumps({"key": key, "seconds": asdict(seconds)}).encode())
    return seconds


def keep_compiled_code() -> None:
    """Let torch keep what it compiles, which else goes with the temporary files of the process."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "protege"
