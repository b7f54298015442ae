"""Compiling: whether torch compiles the network of a training, as a measurement says.

In: a network before its first step, and how often it will be passed. Out: the same network,
compiled in place or not, and a sentence that says why. The keys of its state are the same, and the
average, the optimizer and what exchanges gradients hold the tensors that they held. Results differ
by rounding, so a checkpoint keeps the decision.

    decision = compile_network(Passes(network, images, options, left), world, key, kept=None)
    decision.compiled, decision.reason

Only a deep copy is measured and tried. Torch compiles the code of a class for a shape, so the
network itself, and the same network inside DistributedDataParallel, find it compiled already.
"""

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from infra.errors import describe_error
from infra.store import open_store
from models.optim import set_training
from models.pixels import standardise
from models.precision import computing_in
from tasks.contract import bytes_digest
from tasks.train.options import CompileChoice, TrainOptions
from tasks.train.world import World

MARGIN = 2.0  # so many times its cost is what compiling must gain, because machines are shared
# As bounds, so that nothing is compiled to measure it where few passes are left.
MOST_GAIN = 0.5  # of the time of a pass
LEAST_COST_SECONDS = 20.0
WARMING_PASSES, TIMED_PASSES = 3, 10
CANNOT = "the network is not compiled, because torch cannot"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether the network was compiled; `reason` is a sentence, empty where nothing was decided."""

    compiled: bool
    reason: str = ""


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


class Passes:
    """The passes of a network that are `left` to a process, with so many images in each."""

    def __init__(self, network: nn.Module, images: int, options: TrainOptions, left: int) -> None:
        self.network, self.images, self.options, self.left = network, images, options, left

    def trial(self) -> nn.Module:
        """A copy of the network, in training mode, which a pass may change."""
        network = copy.deepcopy(self.network)
        set_training(network)
        return network

    def compile(self, network: nn.Module) -> None:
        """Let torch compile the network in place, when it is called for the first time."""
        # Else compiled code goes with the temporary files of the process, and a resume waits again.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
        # Kernels that torch chooses by their time would round otherwise in another process.
        exact = self.options.speed.exact_resume
        # All passes have one shape.
        network.compile(dynamic=False, options={"deterministic": exact})

    def run(self, network: nn.Module, num_passes: int = 1) -> float:
        """Pass synthetic images forward and backward. Returns the seconds of a pass."""
        images_BCHW = self._images()
        started = time.perf_counter()
        for _ in range(num_passes):
            with computing_in(self.options.precision, images_BCHW.device):
                outputs_BD: Tensor = network(images_BCHW)
            outputs_BD.float().logsumexp(dim=1).sum().backward()
        if images_BCHW.is_cuda:
            torch.cuda.synchronize(images_BCHW.device)
        return (time.perf_counter() - started) / num_passes

    def _images(self) -> Tensor:
        inputs, device = self.options.inputs, next(self.network.parameters()).device
        images_BCHW = torch.rand(self.images, 3, inputs.size, inputs.size, device=device)
        return standardise(images_BCHW, inputs.mean, inputs.std)


def compile_network(
    passes: Passes, world: World, key: Mapping[str, object], kept: bool | None
) -> Decision:
    """Compile the network in place where the options, or what is `kept` or measured, say so.

    `kept` is the decision of the checkpoint that the training goes on from, `key` what measurements
    are kept by. Every process decides alike; one in which torch cannot compile is a warning, and
    the network stays as it is in all.
    """
    reasons: list[str] = []

    def pays() -> bool:
        # One measures, and the others wait for its decision.
        said = torch.zeros(1, device=world.device)
        if world.leads:
            decision = _decide(passes, key)
            reasons.append(decision.reason)
            said += decision.compiled
        return bool(world.all_sum(said))

    options = passes.options
    # Batch norms that exchange what they see cannot be tried by one process, nor be one graph.
    possible = passes.left > 0 and not options.sync_batch_norm
    choice: CompileChoice = options.speed.compile if possible else "never"
    if not is_wanted(choice, world.device.type, kept, pays):
        return Decision(False, "".join(reasons))
    failures = torch.zeros(1, device=world.device)
    failures += not _can_compile(passes)
    if world.all_sum(failures):
        return Decision(False)
    passes.compile(passes.network)
    return Decision(True, "".join(reasons))


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


def measured_seconds(passes: Passes, key: Mapping[str, object]) -> PassSeconds | None:
    """As they were measured on this machine before, or else now, which is kept.

    None where so few passes are left that compiling cannot pay.
    """
    store = open_store(str(cache_folder() / "compile"))
    name = f"{bytes_digest(json.dumps(key, sort_keys=True).encode())}.json"
    # What cannot be read is measured again.
    with suppress(OSError, ValueError, KeyError, TypeError):
        return PassSeconds(**json.loads(store.read(name))["seconds"])
    if (seconds := _measure(passes)) is not None:
        with suppress(OSError):
            store.replace(name, json.dumps({"key": key, "seconds": asdict(seconds)}).encode())
    return seconds


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "protege"


def _decide(passes: Passes, key: Mapping[str, object]) -> Decision:
    try:
        seconds = measured_seconds(passes, key)
    except Exception as error:
        logger.warning("%s: %s", CANNOT, describe_error(error))
        return Decision(False)
    if seconds is None:
        return Decision(False, f"the network is not compiled: only {passes.left:,} passes are left")
    compiled = seconds.pays(passes.left)
    verb = "is compiled" if compiled else "is not compiled"
    return Decision(compiled, f"the network {verb}: {seconds.describe(passes.left)}")


def _measure(passes: Passes) -> PassSeconds | None:
    trial = passes.trial()
    passes.run(trial, WARMING_PASSES)
    eager = passes.run(trial, TIMED_PASSES)
    if MOST_GAIN * eager * passes.left < MARGIN * LEAST_COST_SECONDS:
        return None
    passes.compile(trial)
    compiling = passes.run(trial)
    passes.run(trial, WARMING_PASSES)
    return PassSeconds(eager, passes.run(trial, TIMED_PASSES), compiling)


def _can_compile(passes: Passes) -> bool:
    """Whether a pass of a compiled copy works here; a warning where it does not."""
    trial = passes.trial()
    try:
        passes.compile(trial)
        passes.run(trial)
    # Whatever torch, Triton or a C++ compiler raises: without them the training goes on as well.
    except Exception as error:
        logger.warning("%s: %s", CANNOT, describe_error(error))
        return False
    return True
