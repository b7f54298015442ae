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
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infra.errors import describe_error
from models.optim import set_training
from models.pixels import standardise
from models.precision import computing_in
from tasks.compiling import (
    CANNOT,
    PassSeconds,
    is_wanted,
    keep_compiled_code,
    kept_seconds,
    measure_passes,
)
from tasks.options import CompileChoice
from tasks.train.options import TrainOptions
from tasks.train.world import World

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether the network was compiled; `reason` is a sentence, empty where nothing was decided."""

    compiled: bool
    reason: str = ""


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
        keep_compiled_code()
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


def measured_seconds(passes: Passes, key: Mapping[str, object]) -> PassSeconds | None:
    """As they were measured on this machine before, or else now, which is kept.

    None where so few passes are left that compiling cannot pay.
    """

    def measure() -> PassSeconds | None:
        trial = passes.trial()
        return measure_passes(
            lambda count: passes.run(trial, count), lambda: passes.compile(trial), passes.left
        )

    return kept_seconds("compile", key, measure)


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
