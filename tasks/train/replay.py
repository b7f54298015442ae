"""Replay: the step that ended a training, again, on this machine, layer by layer.

In: the address of a training whose loss was not finite. Out: a `Replay`: the values of each layer
in the virtual rank where the first one is no number, and its images. Steps from the last checkpoint
on are made again, so the weights are those before the step. The step that is shown is the first
after which a loss, a weight or a state of the optimizer is no number; it may be one or two before
the one whose loss was noticed. On another device or in another number of processes rounding
differs, and the training may get past it: then the last step is shown as it is here.

    replayed = replay("protege-output/train/5f0c...", note=print)
    replayed.layers
"""

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from infra.store import open_store
from models.optim import set_training
from tasks.train.checkpoint import is_finite, not_finite, snapshot
from tasks.train.divergence import KeptRank, last_divergence
from tasks.train.job import TrainJob
from tasks.train.learner import Learner
from tasks.train.trace import LayerValues, Trace
from tasks.train.world import join_world


@dataclass(frozen=True)
class Replay:
    """A step as it was made again; `step` counts from 1.

    `gradients` are the largest magnitudes of the gradients of the parameters, by name; NaN where
    one is no number. `bad_state` names what is not finite after the step.
    """

    uri: str
    step: int
    noticed_step: int
    begun_at: int
    device: str
    loss: float
    num_ranks: int
    kept: KeptRank
    layers: list[LayerValues]
    gradients: dict[str, float]
    bad_state: list[str]

    @property
    def diverges(self) -> bool:
        """Whether a value was no number here, too."""
        finite = math.isfinite(self.loss) and all(map(math.isfinite, self.gradients.values()))
        return not finite or self.first_bad is not None or bool(self.bad_state)

    @property
    def first_bad(self) -> LayerValues | None:
        """The first layer with an output that is not finite, in the forward pass."""
        return next((layer for layer in self.layers if layer.not_finite), None)

    @property
    def last_bad_gradient(self) -> LayerValues | None:
        """The first layer of the backward pass, which is the last one, with such a gradient."""
        return next((layer for layer in reversed(self.layers) if layer.bad_gradients), None)


def replay(uri: str, note: Callable[[str], None]) -> Replay:
    """Make the step again. Raises ProtegeError when this training has kept none."""
    store = open_store(uri)
    last_step, record = last_divergence(store)
    job = TrainJob.model_validate({**record["job"], "progress": os.devnull, "uri": store.uri})
    learner = Learner(job, join_world())
    set_training(learner.network)
    begun_at = learner.step
    note(f"steps {begun_at + 1:,} to {last_step + 1:,} are made again")
    for step in range(begun_at, last_step + 1):
        before = snapshot(learner.state())
        batches = learner.read_step(step)
        loss = float(learner.make_step(batches).loss)
        if math.isfinite(loss) and is_finite(learner.state()) and step < last_step:
            continue
        learner.restore(before)
        # Compiled, layers that are watched would be compiled anew.
        with _not_compiled(learner), Trace(learner.network) as trace:
            loss = float(learner.make_step(batches).loss)
        break
    call = _worst_call(trace)
    return Replay(
        store.uri,
        step + 1,
        last_step + 1,
        begun_at,
        next(learner.network.parameters()).device.type,
        loss,
        learner.num_ranks,
        learner.kept_rank(step, call % learner.num_ranks),
        trace.of_call(call),
        _gradients(learner),
        not_finite(learner.state()),
    )


def _not_compiled(learner: Learner) -> AbstractContextManager[None]:
    if not learner.compiling.compiled:
        return nullcontext()
    eager: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return eager


def _worst_call(trace: Trace) -> int:
    """The call of the network with the first value that is no number, or the largest one."""
    bad = [layer for layer in trace.layers if layer.not_finite or layer.bad_gradients]
    return bad[0].call if bad else max(trace.layers, key=lambda layer: layer.largest).call


def _gradients(learner: Learner) -> dict[str, float]:
    """By parameter, summed over all virtual ranks."""
    return {
        name: float(parameter.grad.abs().max()) if _is_finite(parameter.grad) else math.nan
        for name, parameter in learner.network.named_parameters()
        if parameter.grad is not None
    }


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().all())
