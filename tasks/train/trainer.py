"""Trainer: the training loop, in a process of its own, on one device.

In: a `TrainJob`. Out: `weights.safetensors` and `history.parquet` in the folder of the output,
`metrics.jsonl` while it runs, and progress as JSON lines. Random numbers are seeded anew for every
step from (seed, step, virtual rank), so a training that resumes from a checkpoint gives bit by bit
the weights of one that never stopped, and on another number of processes the same but for rounding.

    torchrun --standalone --nproc-per-node=1 -m tasks.train job.json
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infra.background import insist
from infra.errors import ProtegeError
from infra.launch import write_progress
from infra.prefetch import prefetch
from infra.settings import Settings
from infra.stopping import StopRequest
from infra.store import open_store
from models.augment import augment
from models.ema import Ema
from models.network import Network
from models.optim import OptimizerSettings, clip_gradients, make_optimizer, parameter_groups
from models.pixels import channels_last, to_unit
from models.precision import computing_in
from models.projection import ProjectedNetwork
from tasks.contract import RowCounts, Stopwatch, write_part
from tasks.inference.device_facts import device_facts
from tasks.inference.model import Model
from tasks.inference.weights import (
    WEIGHTS,
    Description,
    encode_tensors,
    save_weights,
)
from tasks.train.augmentation import augmentation_of, step_seed
from tasks.train.checkpoint import State, is_finite, last_state
from tasks.train.data import Batch, BatchReader, open_samples
from tasks.train.divergence import MAX_RANKS, Diverged, Divergence, KeptRank
from tasks.train.history import MAX_ROWS, History
from tasks.train.job import HISTORY, PROJECTION, TRAIN_SET, TrainJob
from tasks.train.metrics import MetricsLog, SpeedMeter
from tasks.train.monitor import Seen, StepMonitor
from tasks.train.objectives import TensorBatch, make_objective
from tasks.train.pinned import new_pixels, to_device
from tasks.train.saving import Saving
from tasks.train.start.initial import initial_network
from tasks.train.start.linear import fit_linear
from tasks.train.start.new_layers import sync_norms
from tasks.train.virtual_ranks import BufferAverage, own_ranks
from tasks.train.world import World, check_same_step, join_world, leave_world, share_gradients
from tasks.train.writers import open_writers

REPORT_SECONDS = 0.5
STEPS_AHEAD = 4  # whose samples are read and decoded while the network works


def train(job: TrainJob, stop: StopRequest) -> None:
    """Train from the last checkpoint, or the start, to the end; publish weights and history.

    Raises ProtegeError, with the step, when it was asked to stop.
    """
    world = join_world()
    trainer = Trainer(job, world, stop)
    if world.leads:
        trainer.metrics.writers = open_writers(Settings().metrics, job.uri, trainer.step)
    trainer.run()
    if world.leads:
        trainer.finish()
    leave_world(world)


class Trainer:
    """A network, its optimizer, its average and its history after `step` steps."""

    def __init__(self, job: TrainJob, world: World, stop: StopRequest | None = None) -> None:
        self._job, self._world, self._options = job, world, job.options
        self._stop = stop or StopRequest()
        self._store = open_store(job.uri)
        self._watch = Stopwatch()

        # The objective, and a reader for each data set that it draws from.
        options = job.options
        self._objective = make_objective(job, world.device)
        self._samples = samples = {
            role: open_samples(job.data[role], job.classes) for role in job.data
        }
        self._readers = {
            role: BatchReader(
                samples[role],
                options,
                round(options.batch_size * share),
                num_views=self._objective.num_views,
                allocate=partial(new_pixels, device=world.device),
            )
            for role, share in self._objective.sources.items()
        }
        images_per_epoch = sum(samples[TRAIN_SET].part_rows)
        self._schedule = options.schedule(images_per_epoch)
        self._total_steps = options.total_steps(images_per_epoch)

        # The network, with what the objective adds to it, its average and its optimizer.
        network = self._objective.module(initial_network(job))
        sync_norms(network, options)
        self._network = channels_last(network.to(world.device))
        # One average is enough: that of the process which publishes it.
        averages = options.ema_decay and world.leads
        self._ema = Ema(self._network, options.ema_decay) if averages else None
        self._optimizer = make_optimizer(
            options.optimizer,
            OptimizerSettings(self._schedule.peak_rate, options.momentum, options.nesterov),
            parameter_groups(
                self._network, options.weight_decay, options.learning_rate.layer_decay
            ),
        )

        # The last checkpoint.
        self.step, self._history = 0, History()
        if state := insist(partial(last_state, self._store), "the checkpoints cannot be read"):
            self.restore(state)
        self._num_ranks = options.num_virtual_ranks
        self._ranks = own_ranks(world.rank, world.size, self._num_ranks)
        self._buffers = BufferAverage(self._network, self._num_ranks)
        self._model: nn.Module = self._network
        if world.size > 1:
            check_same_step(self.step, world.size)
            self._model = share_gradients(self._network)

        # What looks at the training, and keeps it.
        self._monitor = StepMonitor(world.device)
        keep = options.speed.keep_checkpoints
        self._saving = Saving(self._store, job.attempt, keep, self.step)
        self.metrics = MetricsLog(self._store, job.attempt, self.step)
        self._row_meter, self._report_meter = SpeedMeter(), SpeedMeter()

    @property
    def num_ranks(self) -> int:
        """The virtual ranks of a batch."""
        return self._num_ranks

    @property
    def network(self) -> nn.Module:
        """The network in training, with what its objective adds to it."""
        return self._network

    def run(self) -> None:
        """All steps that are left, or the fit of a linear head."""
        if self._options.is_linear:
            self._fit_head()
            return
        total_steps = self._total_steps
        row_steps = max(1, total_steps // MAX_ROWS)
        saved_at = reported_at = time.monotonic()
        self._network.train()
        steps = range(self.step, total_steps)
        for rank_batches in prefetch(map(self.read_step, steps), STEPS_AHEAD):
            self._watch.lap("read")
            loss, measurements = self._train_step(rank_batches)
            self._watch.lap("compute")

            # A row of the history. The loss of this very step is read from the device only here.
            self._history.add(loss, measurements)
            is_row = self.step % row_steps == 0 or self.step == total_steps
            wants_stop = self._look_at_steps(everything=is_row)
            if is_row:
                self._write_history_row()
            if wants_stop and self.step < total_steps:
                self._end_early()

            # Progress and checkpoints, from one process.
            if not self._world.leads:
                continue
            now = time.monotonic()
            if now - reported_at >= REPORT_SECONDS:
                self._report()
                reported_at = now
            if now - saved_at >= self._options.speed.checkpoint_seconds and self._save():
                saved_at = now

    def _fit_head(self) -> None:
        assert isinstance(self._network, Network)
        model = Model(self._network, self._description(), self._world.device)
        fit = fit_linear(model, self._samples[TRAIN_SET], self._report_features)
        # There is nothing to average.
        self._ema = None
        images = sum(self._samples[TRAIN_SET].part_rows)
        self._history.add_fit(fit.loss, images, fit.measurements)
        self._watch.lap("compute")

    def _report_features(self, images: int) -> None:
        self._report_images(images, images)

    def finish(self) -> None:
        """Publish the weights, then the history, unless another attempt was first.

        The checkpoints stay until the manifest is published; the last one is of the last step.
        Raises Diverged for weights that are not finite, ProtegeError when nothing can be written.
        """
        self.metrics.finish()
        if self._total_steps:
            if not is_finite(self.state()):
                raise self._diverged(self.step - 1, self._ranks, "the state of the training")
            self._saving.finish(self.state())
        try:
            insist(self._publish, "the result cannot be written", pause=self._stop.wait)
        except OSError as error:
            raise ProtegeError(
                f"the training is done, and its result cannot be written to {self._store.uri}: "
                f"{error}. Make room, and run again: it goes on from step {self._saving.saved_step}"
            ) from error

    def _publish(self) -> None:
        network = self._ema.network if self._ema else self._network
        if isinstance(network, ProjectedNetwork):
            self._store.create(PROJECTION, encode_tensors(network.projection.state_dict()))
            network = network.network
        self._store.create(WEIGHTS, save_weights(network, self._description()))
        table = self._history.table()
        counts = RowCounts(len(table), len(table), 0)
        write_part(self._store, HISTORY, table, counts, facts=self._facts())
        self._watch.lap("write")
        self._report()

    def state(self) -> State:
        """All that a training needs to go on from here; its tensors are those in use."""
        networks: dict[str, nn.Module] = {"network": self._network}
        if self._ema:
            networks["average"] = self._ema.network
        return State(
            self.step,
            {name: network.state_dict() for name, network in networks.items()},
            self._optimizer.state_dict(),
            self._history.state(),
        )

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._network.load_state_dict(state.networks["network"])
        if self._ema:
            self._ema.network.load_state_dict(state.networks["average"])
        self._optimizer.load_state_dict(dict(state.optimizer))
        self._history.load_state(state.history, self._world.device)
        self.step = state.step

    def train_step(self, rank_batches: Sequence[Mapping[str, Batch]]) -> float:
        """One step by itself. Returns its loss."""
        self._network.train()
        loss, _ = self._train_step(rank_batches)
        return float(loss)

    def read_step(self, step: int) -> list[dict[str, Batch]]:
        """The batches by role, for each virtual rank of this process."""
        readers, num_ranks = self._readers.items(), self._num_ranks
        # Threads go on with the next virtual rank while the last images of one are decoded.
        begun = [
            {role: reader.begin(step, rank, num_ranks) for role, reader in readers}
            for rank in self._ranks
        ]
        return [{role: finish() for role, finish in batches.items()} for batches in begun]

    def _train_step(
        self, rank_batches: Sequence[Mapping[str, Batch]]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        # Forward and backward, one virtual rank after the other.
        self._optimizer.zero_grad()
        self._buffers.start_step()
        measured = []
        for rank, batches in zip(self._ranks, rank_batches, strict=True):
            torch.manual_seed(step_seed(self._options.seed, self.step, rank))
            self._buffers.start_rank()
            with self._gradient_exchange(rank):
                measured.append(self._backward(batches))
            self._buffers.add_rank()
        self._buffers.finish_step(self._world.all_sum)

        # Update the weights and their average.
        if self._options.clip_norm:
            clip_gradients(list(self._network.parameters()), self._options.clip_norm)
        rate = self._schedule.step_rate(self.step, self._options.batch_size)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self._optimizer.step()
        if self._ema:
            self._ema.update(self.step)
        self.step += 1
        return self._mean(measured)

    def _backward(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Add the gradients of a virtual rank. Returns its loss and its named measurements."""
        # To the device, where images are augmented.
        device_batches = {role: self._prepare(batch) for role, batch in batches.items()}
        with computing_in(self._options.precision, self._world.device):
            loss, measurements = self._objective.loss(self._model, device_batches)
        # Gradients become their mean over the processes, which may have unequal numbers of ranks.
        (loss * (self._world.size / self._num_ranks)).backward()
        return {"loss": loss.detach(), **measurements}

    def _gradient_exchange(self, rank: int) -> AbstractContextManager[None]:
        """Gradients are summed up here, and exchanged with other processes after the last rank."""
        if isinstance(self._model, DistributedDataParallel) and rank != self._ranks[-1]:
            exchange: AbstractContextManager[None] = self._model.no_sync()
            return exchange
        return nullcontext()

    def _mean(self, measured: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and the measurements, as means over all virtual ranks of all processes.

        With them goes whether a process should stop, so that all stop after the same step.
        """
        rows = torch.stack([torch.stack(list(values.values())) for values in measured])
        stop_1 = rows.new_full((1,), float(self._stop.is_requested))
        sums = self._world.all_sum(torch.cat([rows.sum(dim=0), stop_1]))
        means = sums[:-1] / self._num_ranks
        named = dict(zip(measured[0], means.unbind(), strict=True))
        loss = named.pop("loss")
        rank_losses_R = torch.stack([values["loss"] for values in measured])
        values_2 = torch.stack([loss, sums[-1]])
        self._monitor.add(self.step - 1, values_2, rank_losses_R)
        return loss, named

    def _prepare(self, batch: Batch) -> TensorBatch:
        device, targets = self._world.device, batch.targets
        images_BCHW = to_unit(to_device(batch.images_BHWC, device))
        return TensorBatch(
            augment(images_BCHW, augmentation_of(self._options.augment)),
            to_device(targets.rows_P, device),
            to_device(targets.classes_P, device),
            to_device(targets.weights_P, device),
        )

    def _write_history_row(self) -> None:
        batch_size = self._options.batch_size
        rate = self._schedule.step_rate(self.step - 1, batch_size)
        self._history.write_row(self.step, self.step * batch_size, rate)
        if self._world.leads:
            speed = self._row_meter.read(*self._images_and_waiting())
            self.metrics.add(self._history.rows[-1], speed)

    def _images_and_waiting(self) -> tuple[int, float]:
        """Images so far, and seconds of this attempt in which the network waited for some."""
        return self.step * self._options.batch_size, self._watch.seconds.get("read", 0.0)

    def _look_at_steps(self, *, everything: bool) -> bool:
        """Whether the processes should stop. Raises Diverged for a loss that is no number."""
        seen = self._monitor.take(everything=everything)
        for step in seen:
            if not step.is_finite:
                raise self._diverged(step.step, self._bad_ranks(step))
        return any(step.wants_stop for step in seen)

    def _bad_ranks(self, seen: Seen) -> list[int]:
        """The virtual ranks of this process whose own loss is no number."""
        finite_R = seen.rank_losses_R.isfinite().tolist()
        return [rank for rank, finite in zip(self._ranks, finite_R, strict=True) if not finite]

    def _diverged(self, step: int, ranks: Sequence[int], what: str = "the loss") -> Diverged:
        """The error, after what shows its cause is kept; `step` counts from 0."""
        divergence = Divergence(self._store, self._job, step)
        kept_ranks = [self.kept_rank(step, rank) for rank in ranks[:MAX_RANKS]]
        kept = divergence.keep(kept_ranks, self._facts())
        return divergence.error(what, kept)

    def kept_rank(self, step: int, rank: int) -> KeptRank:
        """A virtual rank of a step, as the network sees it; the step counts from 0."""
        seed, readers = step_seed(self._options.seed, step, rank), self._readers.items()
        batches = {role: reader.read(step, rank, self._num_ranks) for role, reader in readers}
        names = {role: reader.names(step, rank, self._num_ranks) for role, reader in readers}
        torch.manual_seed(seed)
        inputs = {role: self._prepare(batch) for role, batch in batches.items()}
        return KeptRank(rank, seed, batches, inputs, names)

    def _save(self) -> bool:
        """Begin to write a checkpoint. False while another one is being written."""
        if self._saving.is_busy:
            return False
        # From a state with a loss that is no number, no training could be resumed.
        if self._monitor.is_finite():
            self._saving.start(self.state())
        return True

    def _end_early(self) -> None:
        """Write a last checkpoint, and raise ProtegeError in every process."""
        if self._world.leads:
            self._saving.finish(self.state())
            self.metrics.finish()
        leave_world(self._world)
        error = f" ({self._saving.error})" if self._saving.error else ""
        saved = self._saving.saved_step if self._world.leads else self.step
        raise ProtegeError(
            f"the training was stopped at step {self.step:,} of {self._total_steps:,}; "
            f"run it again, and it goes on from step {saved:,}{error}"
        )

    def _facts(self) -> dict[str, str]:
        return {
            **device_facts(self._world.device),
            "processes": str(self._world.size),
            "threads": str(torch.get_num_threads()),
        }

    def _report(self) -> None:
        self._report_images(self.step, *self._images_and_waiting())

    def _report_images(self, done: int, images: int, waiting_seconds: float = 0.0) -> None:
        line = {
            "step": done,
            "loss": self._history.last_loss,
            "learning_rate": self._schedule.step_rate(
                max(0, self.step - 1), self._options.batch_size
            ),
            **asdict(self._report_meter.read(images, waiting_seconds)),
            "seconds": self._watch.seconds,
        }
        write_progress(Path(self._job.progress), line)

    def _description(self) -> Description:
        return Description(self._options.model, self._job.classes, self._options.inputs)
