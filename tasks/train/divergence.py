"""Divergence: what is kept of a step whose loss is not finite, so that it can be seen again.

<output>/diverged/step-000000124.json                       the step, the machine and the job
<output>/diverged/step-000000124-rank-0003.safetensors      a virtual rank whose loss is no number

A file of a rank has its images as they were decoded and as the network saw them, before mixing, and
the targets; the names of the images and the seed are in its metadata. The weights before the step
are those of the last checkpoint and the steps after it, which `protege replay` (replay.py) makes
again. Steps count from 1 in names and sentences, as in the history.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infra.errors import ProtegeError, describe_error
from infra.store import Store
from tasks.inference.weights import encode_tensors
from tasks.train.data import Batch
from tasks.train.job import DIVERGED, TrainJob
from tasks.train.objectives import TensorBatch

MAX_RANKS = 4  # that a process keeps of a step: when all have diverged, they look alike
logger = logging.getLogger(__name__)


class Diverged(FloatingPointError):
    """A loss, or weights, that are no numbers any more."""


@dataclass(frozen=True)
class KeptRank:
    """A virtual rank: its seed and, by data set, its images before and after augmentation."""

    rank: int
    seed: int
    batches: Mapping[str, Batch]
    inputs: Mapping[str, TensorBatch]
    names: Mapping[str, Sequence[str]]

    def tensors(self) -> dict[str, Tensor]:
        """What its file holds, as `<data set>.<name>`."""
        tensors = {}
        for role, inputs in self.inputs.items():
            tensors[f"{role}.decoded_BHWC"] = torch.from_numpy(self.batches[role].images_BHWC)
            tensors[f"{role}.images_BCHW"] = inputs.images_BCHW
            tensors[f"{role}.rows_P"] = inputs.rows_P
            tensors[f"{role}.classes_P"] = inputs.classes_P
            tensors[f"{role}.weights_P"] = inputs.weights_P
        return tensors

    def metadata(self) -> dict[str, str]:
        """What its file says besides."""
        names = {role: list(names) for role, names in self.names.items()}
        return {"rank": str(self.rank), "seed": str(self.seed), "images": json.dumps(names)}


@dataclass(frozen=True)
class Divergence:
    """The step of a training that ended it; `step` counts from 0."""

    store: Store
    job: TrainJob
    step: int

    def keep(self, ranks: Sequence[KeptRank], facts: Mapping[str, str]) -> bool:
        """Write the files. False, with a warning, when the store takes none."""
        name = f"{DIVERGED}/step-{self.step + 1:09d}"
        record = {
            "step": self.step + 1,
            "facts": facts,
            "job": self.job.model_dump(mode="json"),
        }
        try:
            for kept in ranks:
                data = encode_tensors(kept.tensors(), kept.metadata())
                self.store.replace(f"{name}-rank-{kept.rank:04d}.safetensors", data)
            # Every process of the training writes the same.
            self.store.replace(f"{name}.json", json.dumps(record, indent=1).encode())
        except (OSError, ProtegeError) as error:
            logger.warning("the step that diverged could not be kept: %s", describe_error(error))
            return False
        return True

    def error(self, what: str, kept: bool) -> Diverged:
        """The error to raise; `what` is no number."""
        base = self.job.options.learning_rate.base
        look = f". `protege replay {self.store.uri}` shows where it begins" if kept else ""
        return Diverged(
            f"{what} is not finite at step {self.step + 1}: lower options.learning_rate.base "
            f"(now {base:g}) or lengthen the warm-up{look}"
        )


def last_divergence(store: Store) -> tuple[int, Mapping[str, Any]]:
    """The last step that diverged, counted from 0, and its record. Raises ProtegeError."""
    names = [name for name in store.sizes(DIVERGED) if name.endswith(".json")]
    if not names:
        raise ProtegeError(
            f"{store.uri} has kept no step whose loss was not finite: there is nothing to replay"
        )
    record: Mapping[str, Any] = json.loads(store.read(names[-1]))
    return record["step"] - 1, record
