"""Trainer: looks after a training, in a process of its own, on one device.

In: a `TrainJob`. Out: `weights.safetensors` and `history.parquet` in the folder of the output,
`metrics.jsonl` while it runs, and progress as JSON lines. What learns is a `Learner`, whose steps
are functions of the step before: a training that resumes from a checkpoint gives bit by bit the
weights of one that never stopped, and on another number of processes the same but for rounding.

    torchrun --standalone --nproc-per-node=1 -m tasks.train job.json
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

import torch

from infra.background import insist
from infra.errors import ProtegeError
from infra.launch import write_progress
from infra.prefetch import prefetch
from infra.settings import Settings
from infra.stopping import StopRequest
from infra.store import open_store
from models.network import Network
from models.networks.projection import ContrastiveNetwork
from models.optim import set_training
from tasks.contract import RowCounts, Stopwatch, write_part
from tasks.inference.device_facts import device_facts
from tasks.inference.model import Model
from tasks.inference.weights import WEIGHTS, Description, encode_tensors, save_weights
from tasks.train.checkpoint import is_finite
from tasks.train.divergence import MAX_RANKS, Diverged, Divergence
from tasks.train.history import MAX_ROWS
from tasks.train.job import HISTORY, PROJECTION, TRAIN_SET, TrainJob
from tasks.train.learner import Learner, Measured
from tasks.train.metrics import MetricsLog, SpeedMeter
from tasks.train.monitor import Seen, StepMonitor
from tasks.train.saving import Saving
from tasks.train.start.linear import fit_linear
from tasks.train.world import World, join_world, leave_world
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
        trainer.metrics.writers = open_writers(Settings().metrics, job.uri, trainer.learner.step)
    trainer.run()
    if world.leads:
        trainer.finish()
    leave_world(world)


class Trainer:
    """The course of a training, from the step that its learner has reached."""

    def __init__(self, job: TrainJob, world: World, stop: StopRequest | None = None) -> None:
        self._job, self._world, self._options = job, world, job.options
        self._stop = stop or StopRequest()
        self._store = open_store(job.uri)
        self._watch = Stopwatch()
        self.learner = learner = Learner(job, world)

        # What looks at the training, and keeps it.
        self._monitor = StepMonitor(world.device)
        keep = job.options.speed.keep_checkpoints
        self._saving = Saving(self._store, job.attempt, keep, learner.step)
        self.metrics = MetricsLog(self._store, job.attempt, learner.step)
        self._row_meter, self._report_meter = SpeedMeter(), SpeedMeter()
        if world.leads and learner.compiling.reason:
            line = {"log": logging.INFO, "text": learner.compiling.reason}
            write_progress(line)

    def run(self) -> None:
        """All steps that are left, or the fit of a linear head."""
        if self._job.is_linear:
            self._fit_head()
            return
        total_steps = self.learner.total_steps
        row_steps = max(1, total_steps // MAX_ROWS)
        learner = self.learner
        saved_at = reported_at = time.monotonic()
        set_training(learner.network)
        steps = range(learner.step, total_steps)
        for rank_batches in prefetch(map(learner.read_step, steps), STEPS_AHEAD):
            self._watch.lap("read")
            measured = learner.make_step(rank_batches, wants_stop=self._stop.is_requested)
            self._watch.lap("compute")

            # A row of the history. The loss of this very step is read from the device only here.
            learner.history.add(measured.loss, measured.measurements)
            is_row = learner.step % row_steps == 0 or learner.step == total_steps
            wants_stop = self._look_at_steps(measured, everything=is_row)
            if is_row:
                self._write_history_row()
            if wants_stop and learner.step < total_steps:
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
        learner = self.learner
        assert isinstance(learner.network, Network)
        model = Model(learner.network, self._description(), self._world.device)
        fit = fit_linear(model, learner.samples[TRAIN_SET], self._report_features)
        learner.history.add_fit(fit.loss, learner.images_per_epoch, fit.measurements)
        self._watch.lap("compute")

    def _report_features(self, images: int) -> None:
        self._report_images(images, images)

    def finish(self) -> None:
        """Publish the weights, then the history, unless another attempt was first.

        The checkpoints stay until the manifest is published; the last one is of the last step.
        Raises Diverged for weights that are not finite, ProtegeError when nothing can be written.
        """
        self.metrics.finish()
        learner = self.learner
        if self.learner.total_steps:
            if not is_finite(learner.state()):
                raise self._diverged(learner.step - 1, learner.ranks, "the state of the training")
            self._saving.finish(learner.state())
        try:
            insist(self._publish, "the result cannot be written", pause=self._stop.wait)
        except OSError as error:
            raise ProtegeError(
                f"the training is done, and its result cannot be written to {self._store.uri}: "
                f"{error}. Make room, and run again: it goes on from step {self._saving.saved_step}"
            ) from error

    def _publish(self) -> None:
        network = self.learner.published
        if isinstance(network, ContrastiveNetwork):
            self._store.create(PROJECTION, encode_tensors(network.projection.state_dict()))
            network = network.network
        self._store.create(WEIGHTS, save_weights(network, self._description()))
        table = self.learner.history.table()
        counts = RowCounts(len(table), len(table), 0)
        write_part(self._store, HISTORY, table, counts, facts=self._facts())
        self._watch.lap("write")
        self._report()

    def _write_history_row(self) -> None:
        learner = self.learner
        images = learner.step * self._options.batch_size
        learner.history.write_row(learner.step, images, learner.step_rate(learner.step - 1))
        if self._world.leads:
            speed = self._row_meter.read(*self._images_and_waiting())
            self.metrics.add(learner.history.rows[-1], speed)

    def _images_and_waiting(self) -> tuple[int, float]:
        """Images so far, and seconds of this attempt in which the network waited for some."""
        return self.learner.step * self._options.batch_size, self._watch.seconds.get("read", 0.0)

    def _look_at_steps(self, measured: Measured, *, everything: bool) -> bool:
        """Whether the processes should stop. Raises Diverged for a loss that is no number."""
        values_2 = torch.stack([measured.loss, measured.stops])
        self._monitor.add(self.learner.step - 1, values_2, measured.rank_losses_R)
        seen = self._monitor.take(everything=everything)
        for step in seen:
            if not step.is_finite:
                raise self._diverged(step.step, self._bad_ranks(step))
        return any(step.wants_stop for step in seen)

    def _bad_ranks(self, seen: Seen) -> list[int]:
        """The virtual ranks of this process whose own loss is no number."""
        finite_R = seen.rank_losses_R.isfinite().tolist()
        return [
            rank for rank, finite in zip(self.learner.ranks, finite_R, strict=True) if not finite
        ]

    def _diverged(self, step: int, ranks: Sequence[int], what: str = "the loss") -> Diverged:
        """The error, after what shows its cause is kept; `step` counts from 0."""
        divergence = Divergence(self._store, self._job, step)
        kept_ranks = [self.learner.kept_rank(step, rank) for rank in ranks[:MAX_RANKS]]
        kept = divergence.keep(kept_ranks, self._facts())
        return divergence.error(what, kept)

    def _save(self) -> bool:
        """Begin to write a checkpoint. False while another one is being written."""
        if self._saving.is_busy:
            return False
        # From a state with a loss that is no number, no training could be resumed.
        if self._monitor.is_finite():
            self._saving.start(self.learner.state())
        return True

    def _end_early(self) -> None:
        """Write a last checkpoint, and raise ProtegeError in every process."""
        if self._world.leads:
            self._saving.finish(self.learner.state())
            self.metrics.finish()
        leave_world(self._world)
        error = f" ({self._saving.error})" if self._saving.error else ""
        saved = self._saving.saved_step if self._world.leads else self.learner.step
        raise ProtegeError(
            f"the training was stopped at step {self.learner.step:,} of "
            f"{self.learner.total_steps:,}; run it again, and it goes on from step {saved:,}{error}"
        )

    def _facts(self) -> dict[str, str]:
        return {
            **device_facts(self._world.device),
            "processes": str(self._world.size),
            "threads": str(torch.get_num_threads()),
            "compiled": "yes" if self.learner.compiling.compiled else "no",
        }

    def _report(self) -> None:
        self._report_images(self.learner.step, *self._images_and_waiting())

    def _report_images(self, done: int, images: int, waiting_seconds: float = 0.0) -> None:
        line = {
            "step": done,
            "loss": self.learner.history.last_loss,
            "learning_rate": self.learner.step_rate(max(0, self.learner.step - 1)),
            **asdict(self._report_meter.read(images, waiting_seconds)),
            "seconds": self._watch.seconds,
        }
        write_progress(line)

    def _description(self) -> Description:
        return Description(self._options.model, self._job.classes, self._options.inputs)
