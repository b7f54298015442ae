"""Learner: what learns in a training: a network, its optimizer, its average, and a step of them.

In: a `TrainJob`, and the batches of a step. Out: changed weights, and what was measured. Random
numbers are seeded anew for every step from (seed, step, virtual rank), and all that a step changes
is in `state()`.

    learner = Learner(job, world)        # as the last checkpoint has it
    measured = learner.make_step(learner.read_step(learner.step))
    learner.state()
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infra.background import insist
from infra.errors import ProtegeError
from infra.store import open_store
from models.augment import augment
from models.ema import Ema
from models.optim import (
    OptimizerSettings,
    clip_gradients,
    freeze_layers,
    make_optimizer,
    parameter_groups,
)
from models.pixels import channels_last, to_unit
from models.precision import computing_in, repeat_convolutions
from tasks.inference.device_facts import device_facts
from tasks.train.augmentation import augmentation_of, step_seed
from tasks.train.checkpoint import State, last_state
from tasks.train.compiling import Decision, Passes, compile_network
from tasks.train.data import Batch, BatchReader, open_samples
from tasks.train.divergence import KeptRank
from tasks.train.history import History
from tasks.train.job import TRAIN_SET, TrainJob
from tasks.train.objectives import TensorBatch, make_objective
from tasks.train.options import TrainOptions
from tasks.train.pinned import new_pixels, to_device
from tasks.train.start.initial import initial_network
from tasks.train.start.new_layers import sync_norms
from tasks.train.virtual_ranks import BufferAverage, own_ranks
from tasks.train.world import World, check_same_step, share_gradients


@dataclass(frozen=True)
class Measured:
    """A step's loss and its named measurements, as means over all virtual ranks of all processes.

    `stops` is how many processes want to stop; `rank_losses_R` are of the virtual ranks of this
    process. All are on the device.
    """

    loss: Tensor
    measurements: Mapping[str, Tensor]
    stops: Tensor
    rank_losses_R: Tensor


class Learner:
    """A network, its optimizer, its average and its history after `step` steps.

    `ema` is None without an average, and in processes that do not publish it; `compiling` says
    whether the network is compiled.
    """

    def __init__(self, job: TrainJob, world: World) -> None:
        self._world, self._options = world, job.options
        repeat_convolutions(exactly=job.options.speed.exact_resume)

        # The objective, and a reader for each data set that it draws from.
        options = job.options
        self._objective = make_objective(job, world.device)
        self.samples = samples = {
            role: open_samples(job.data[role], job.classes) for role in job.data
        }
        self.images_per_epoch = sum(samples[TRAIN_SET].part_rows)
        self._readers = {
            role: BatchReader(
                samples[role],
                options,
                round(options.batch_size * share),
                num_views=self._objective.num_views,
                options_at=self._options_at,
                allocate=partial(new_pixels, device=world.device),
                stands_back=world.device.type == "cpu",
            )
            for role, share in self._objective.sources.items()
        }
        self.schedule = options.schedule(self.images_per_epoch)
        self.total_steps = options.total_steps(self.images_per_epoch)

        # The network, with what the objective adds to it, its average and its optimizer.
        network = self._objective.module(initial_network(job))
        _freeze(network, options.frozen_layers)
        sync_norms(network, options)
        self.network: nn.Module = channels_last(network.to(world.device))
        # One average is enough: that of the process which publishes it. A head is not averaged.
        averages = options.ema_decay and world.leads and not job.is_linear
        self.ema = Ema(self.network, options.ema_decay) if averages else None
        self._optimizer = make_optimizer(
            options.optimizer,
            OptimizerSettings(self.schedule.peak_rate, options.momentum, options.nesterov),
            parameter_groups(self.network, options.weight_decay, options.learning_rate.layer_decay),
        )

        # The last checkpoint.
        self.step, self.history = 0, History()
        store = open_store(job.uri)
        if state := insist(partial(last_state, store), "the checkpoints cannot be read"):
            self.restore(state)
        self.num_ranks = options.num_virtual_ranks
        self.ranks = own_ranks(world.rank, world.size, self.num_ranks)
        self._buffers = BufferAverage(self.network, self.num_ranks)
        if world.size > 1:
            check_same_step(self.step, world.size)

        # Before it is wrapped: torch compiles DistributedDataParallel badly.
        self.compiling = self._compile(job.objective, state.compiled if state else None)
        self._model = share_gradients(self.network) if world.size > 1 else self.network

    @property
    def published(self) -> nn.Module:
        """The network that is the result: the average, where there is one."""
        return self.ema.network if self.ema else self.network

    def step_rate(self, step: int) -> float:
        """The learning rate of a step, which counts from 0."""
        return self.schedule.step_rate(step, self._options.batch_size)

    def state(self) -> State:
        """All that a training needs to go on from here; its tensors are those in use."""
        networks = {"network": self.network}
        if self.ema:
            networks["average"] = self.ema.network
        return State(
            self.step,
            {name: network.state_dict() for name, network in networks.items()},
            self._optimizer.state_dict(),
            self.history.state(),
            self.compiling.compiled,
        )

    def restore(self, state: State) -> None:
        """Go on from there."""
        self.network.load_state_dict(state.networks["network"])
        if self.ema:
            self.ema.network.load_state_dict(state.networks["average"])
        self._optimizer.load_state_dict(dict(state.optimizer))
        self.history.load_state(state.history, self._world.device)
        self.step = state.step

    def read_step(self, step: int) -> list[dict[str, Batch]]:
        """The batches by role, for each virtual rank of this process."""
        readers, num_ranks = self._readers.items(), self.num_ranks
        # Threads go on with the next virtual rank while the last images of one are decoded.
        begun = [
            {role: reader.begin(step, rank, num_ranks) for role, reader in readers}
            for rank in self.ranks
        ]
        return [{role: finish() for role, finish in batches.items()} for batches in begun]

    def kept_rank(self, step: int, rank: int) -> KeptRank:
        """A virtual rank of a step, as the network sees it; the step counts from 0."""
        seed, readers = step_seed(self._options.seed, step, rank), self._readers.items()
        batches = {role: reader.read(step, rank, self.num_ranks) for role, reader in readers}
        names = {role: reader.names(step, rank, self.num_ranks) for role, reader in readers}
        torch.manual_seed(seed)
        inputs = {role: self._prepare(batch, step) for role, batch in batches.items()}
        return KeptRank(rank, seed, batches, inputs, names)

    def make_step(
        self, rank_batches: Sequence[Mapping[str, Batch]], *, wants_stop: bool = False
    ) -> Measured:
        """One step of the network, in training mode, on the batches of `read_step`.

        `wants_stop` of any process is added up with what was measured, so that all processes know
        it after the same step.
        """
        # Forward and backward, one virtual rank after the other.
        self._optimizer.zero_grad()
        self._buffers.start_step()
        measured = []
        for rank, batches in zip(self.ranks, rank_batches, strict=True):
            torch.manual_seed(step_seed(self._options.seed, self.step, rank))
            self._buffers.start_rank()
            with self._gradient_exchange(rank):
                measured.append(self._backward(batches))
            self._buffers.add_rank()
        self._buffers.finish_step(self._world.all_sum)

        # Update the weights and their average.
        if self._options.clip_norm:
            clip_gradients(list(self.network.parameters()), self._options.clip_norm)
        rate = self.step_rate(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self._optimizer.step()
        if self.ema:
            self.ema.update(self.step)
        self.step += 1
        return self._mean(measured, wants_stop)

    def _compile(self, objective: str, kept: bool | None) -> Decision:
        options, sources = self._options, self._objective.sources.values()
        samples = sum(round(options.batch_size * share) // self.num_ranks for share in sources)
        images = samples * self._objective.num_views
        left = len(self.ranks) * (self.total_steps - self.step)
        key = {
            "model": options.model,
            "objective": objective,
            "size": options.inputs.size,
            "images": images,
            "precision": options.precision,
            "exact": options.speed.exact_resume,
            **device_facts(self._world.device),
        }
        return compile_network(Passes(self.network, images, options, left), self._world, key, kept)

    def _backward(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Add the gradients of a virtual rank. Returns its loss and its named measurements."""
        # To the device, where images are augmented.
        device_batches = {role: self._prepare(batch, self.step) for role, batch in batches.items()}
        with computing_in(self._options.precision, self._world.device):
            loss, measurements = self._objective.loss(self._model, device_batches)
        # Gradients become their mean over the processes, which may have unequal numbers of ranks.
        (loss * (self._world.size / self.num_ranks)).backward()
        return {"loss": loss.detach(), **measurements}

    def _gradient_exchange(self, rank: int) -> AbstractContextManager[None]:
        """Gradients are summed up here, and exchanged with other processes after the last rank."""
        if isinstance(self._model, DistributedDataParallel) and rank != self.ranks[-1]:
            exchange: AbstractContextManager[None] = self._model.no_sync()
            return exchange
        return nullcontext()

    def _mean(self, measured: Sequence[Mapping[str, Tensor]], wants_stop: bool) -> Measured:
        rows = torch.stack([torch.stack(list(values.values())) for values in measured])
        stop_1 = rows.new_full((1,), float(wants_stop))
        sums = self._world.all_sum(torch.cat([rows.sum(dim=0), stop_1]))
        means = sums[:-1] / self.num_ranks
        named = dict(zip(measured[0], means.unbind(), strict=True))
        rank_losses_R = torch.stack([values["loss"] for values in measured])
        return Measured(named.pop("loss"), named, sums[-1], rank_losses_R)

    def _options_at(self, step: int) -> TrainOptions:
        return self._options.at_step(step, self.images_per_epoch)

    def _prepare(self, batch: Batch, step: int) -> TensorBatch:
        device, targets = self._world.device, batch.targets
        changes = self._options_at(step).augment
        images_BCHW = to_unit(to_device(batch.images_BHWC, device))
        return TensorBatch(
            augment(images_BCHW, augmentation_of(changes)),
            to_device(targets.rows_P, device),
            to_device(targets.classes_P, device),
            to_device(targets.weights_P, device),
            changes,
        )


def _freeze(network: nn.Module, frozen_layers: int) -> None:
    """Keep the first layers as they are. Raises ProtegeError when nothing would be trained."""
    if not frozen_layers:
        return
    try:
        freeze_layers(network, frozen_layers)
    except ValueError as error:
        raise ProtegeError(f"options.frozen_layers: {error}: lower it") from None
