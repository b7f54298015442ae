"""Loop: the training itself, in a process of its own, on one device.

In: a `TrainJob`. Out: `weights.safetensors` and `history.parquet` in the folder of the output, and
progress as JSON lines. Randomness is seeded anew for every step from (seed, step, process), so a
training that goes on from a checkpoint takes bit by bit the course of one that never stopped.

    torchrun --standalone --nproc-per-node=1 -m tasks.train job.json
"""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infra.errors import ProtegeError
from infra.launch import tell
from infra.store import open_store
from models.augment import Augmentation, augment, mixup
from models.ema import Ema
from models.losses import soft_cross_entropy
from models.optim import OptimizerSettings, make_optimizer, parameter_groups
from models.pixels import channels_last, standardise, to_unit
from models.registry import build
from tasks import tables
from tasks.contract import RowCounts, Stopwatch, write_part
from tasks.inference.weights import (
    WEIGHTS,
    Description,
    load_given,
    load_network,
    save_weights,
)
from tasks.train.checkpoint import State, last_state, save_state
from tasks.train.data import Batch, Samples, batches
from tasks.train.job import TrainJob
from tasks.train.names import HISTORY
from tasks.train.options import TrainOptions

HISTORY_ROWS = 200
REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class World:
    """This process among all of the job."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes what there is to write."""
        return self.rank == 0


def train(job: TrainJob) -> None:
    """Train from the last checkpoint, or the start, to the end; publish weights and history."""
    world = _join()
    trainer = Trainer(job, world)
    trainer.run()
    if world.leads:
        trainer.finish()
    if world.size > 1:
        dist.barrier()
        dist.destroy_process_group()


class Trainer:
    """A network, its optimizer, its average and its history; `step` steps are done."""

    def __init__(self, job: TrainJob, world: World) -> None:
        self._job, self._world, self._options = job, world, job.options
        self._store = open_store(job.uri)
        self._samples = Samples(job.data, job.classes, job.options)
        self._schedule = job.options.schedule(len(self._samples))
        self._watch = Stopwatch()
        self.step = 0
        self._history: list[dict[str, float]] = []
        self._losses: list[Tensor] = []  # of the steps since the last row of the history
        torch.manual_seed(job.options.seed)
        self._network = channels_last(self._initial_network().to(world.device))
        self._ema = Ema(self._network, job.options.ema_decay)
        self._optimizer = make_optimizer(
            "sgd",
            OptimizerSettings(
                learning_rate=self._schedule.peak_rate,
                momentum=job.options.momentum,
                nesterov=job.options.nesterov,
            ),
            parameter_groups(self._network, job.options.weight_decay),
        )
        self._restore(last_state(self._store))
        self._model: nn.Module = self._network
        if world.size > 1:
            _check_same_step(self.step, world.size)
            self._model = DistributedDataParallel(self._network)

    def run(self) -> None:
        """All steps that are left."""
        total, world = self._schedule.total_steps, self._world
        losses = self._losses
        every = max(1, total // HISTORY_ROWS)
        saved = reported = time.monotonic()
        self._network.train()
        for batch in batches(self._samples, range(self.step, total), world.rank, world.size):
            self._watch.lap("read")
            losses.append(self._train_step(batch))
            self._watch.lap("compute")
            if self.step % every == 0 or self.step == total:
                self._note(losses)
            if not world.leads:
                continue
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS:
                self._report()
                reported = now
            if now - saved >= self._options.speed.checkpoint_seconds:
                self._save()
                saved = now

    def finish(self) -> None:
        """Publish the weights, then the history, unless another attempt was first.

        The checkpoints stay until the manifest is out.
        """
        network = self._ema.network if self._options.ema_decay else self._network
        inputs = self._options.inputs
        description = Description(self._options.model, self._job.classes, inputs)
        self._store.create(WEIGHTS, save_weights(network, description))
        table = pa.Table.from_pylist(self._history, schema=tables.HISTORY)
        rows = len(self._history)
        write_part(self._store, HISTORY, table, RowCounts(rows, rows, 0), facts=self._facts())
        self._watch.lap("write")
        self._report()

    def _train_step(self, batch: Batch) -> Tensor:
        options, device = self._options, self._world.device
        torch.manual_seed(_step_seed(options.seed, self.step, self._world.rank))
        images_BCHW = to_unit(torch.from_numpy(batch.images_BHWC).to(device))
        images_BCHW = augment(images_BCHW, augmentation(options))
        targets_BC = torch.from_numpy(batch.targets_BC).to(device)
        if options.augment.mixup:
            images_BCHW, targets_BC = mixup(images_BCHW, targets_BC, options.augment.mixup)
        images_BCHW = standardise(images_BCHW, options.inputs.mean, options.inputs.std)
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.rate(self.step)
        with torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=options.precision == "bfloat16"
        ):
            logits_BC = self._model(images_BCHW)
        loss = soft_cross_entropy(logits_BC, targets_BC, options.label_smoothing)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if options.ema_decay:
            self._ema.update(self._network, self.step)
        self.step += 1
        return loss.detach()

    def _initial_network(self) -> nn.Module:
        if self._job.init is not None:
            return load_network(self._job.init)[0]
        network = build(self._options.model, len(self._job.classes))
        if self._options.checkpoint:
            load_given(self._options.checkpoint, network)
        return network

    def _note(self, losses: list[Tensor]) -> None:
        loss = float(torch.stack(losses).mean())
        if loss != loss:
            raise FloatingPointError(
                f"the loss is not a number at step {self.step}: lower learning_rate.base "
                f"(now {self._options.learning_rate.base:g}) or lengthen the warm-up"
            )
        self._history.append(
            {
                "step": self.step,
                "images": self.step * self._options.batch_size,
                "loss": loss,
                "learning_rate": self._schedule.rate(self.step - 1),
            }
        )
        losses.clear()

    def _save(self) -> None:
        weights = {
            **{f"network.{name}": value for name, value in self._network.state_dict().items()},
            **{f"average.{name}": value for name, value in self._ema.network.state_dict().items()},
        }
        rest = {
            "optimizer": self._optimizer.state_dict(),
            "history": self._history,
            "losses": [float(loss) for loss in self._losses],
            "random": torch.get_rng_state(),
        }
        save_state(self._store, State(self.step, weights, rest), self._job.attempt)

    def _restore(self, state: State | None) -> None:
        if state is None:
            return
        for prefix, network in (("network.", self._network), ("average.", self._ema.network)):
            network.load_state_dict(
                {
                    name.removeprefix(prefix): value
                    for name, value in state.weights.items()
                    if name.startswith(prefix)
                }
            )
        self._optimizer.load_state_dict(state.rest["optimizer"])
        torch.set_rng_state(state.rest["random"])
        self._history = list(state.rest["history"])
        device = self._world.device
        self._losses = [torch.tensor(loss, device=device) for loss in state.rest["losses"]]
        self.step = state.step

    def _facts(self) -> dict[str, str]:
        return {
            "device": self._world.device.type,
            "processes": str(self._world.size),
            "threads": str(torch.get_num_threads()),
        }

    def _report(self) -> None:
        loss = self._history[-1]["loss"] if self._history else None
        line = {"step": self.step, "total": self._schedule.total_steps, "loss": loss}
        tell(Path(self._job.progress), {**line, "seconds": self._watch.seconds})


def augmentation(options: TrainOptions) -> Augmentation:
    """The batch-wise augmentation that the options ask for."""
    values: dict[str, Any] = options.augment.model_dump(exclude={"crop_min_area", "mixup"})
    return Augmentation(**values)


def _join() -> World:
    """This process's place in the job, from torchrun's environment."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    torch.backends.cudnn.deterministic = True
    if size > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=10))
    return World(rank, size, device)


def _check_same_step(step: int, size: int) -> None:
    """Raise ProtegeError when the processes of this job have not found the same checkpoint."""
    steps: list[int] = [0] * size
    dist.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        raise ProtegeError(
            f"the training processes would go on from different steps ({steps}): another run has "
            "just written or deleted a checkpoint. Run again"
        )


def _step_seed(seed: int, step: int, rank: int) -> int:
    # Any fixed injective mix will do; torch scrambles it.
    return (seed * 1_000_003 + step) * 1_009 + rank
