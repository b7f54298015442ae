"""Checkpoints: weights as safetensors, and beside them what a training needs to go on.

    <output>/weights.safetensors                         the finished model, with its description
    <output>/checkpoints/step-000000400-000003/weights.safetensors
    <output>/checkpoints/step-000000400-000003/state.pt  optimizer, averages, history, random state
    <output>/checkpoints/step-000000400-000003.json      published last: the checkpoint is complete

The second number is the attempt: one that was replaced, and does not know it yet, writes beside the
one that has replaced it, and deletes nothing of it. Whoever goes on takes the highest step of all.

The schedule and the position in the data are functions of the step, so the step is their state.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from infra.store import Store
from tasks.inference.weights import WEIGHTS, encode_tensors
from tasks.train.names import CHECKPOINTS

KEEP = 2  # the newest may be the one that a dying disk has damaged


@dataclass(frozen=True)
class State:
    """A training in the middle: `step` steps are done."""

    step: int
    weights: Mapping[str, Tensor]
    rest: Mapping[str, Any]


def save_state(store: Store, state: State, attempt: int) -> None:
    """Publish a checkpoint; its marker comes last. Older ones but for the newest are removed."""
    folder = f"{CHECKPOINTS}/step-{state.step:09d}-{attempt:06d}"
    store.replace(f"{folder}/{WEIGHTS}", encode_tensors(state.weights))
    sink = io.BytesIO()
    torch.save(dict(state.rest), sink)
    store.replace(f"{folder}/state.pt", sink.getvalue())
    store.replace(f"{folder}.json", json.dumps({"step": state.step}).encode())
    ours = [marker for marker in _complete(store) if _attempt(marker) <= attempt]
    for old in ours[:-KEEP]:
        _remove(store, old)


def last_state(store: Store) -> State | None:
    """The complete checkpoint with the highest step, of any attempt, or None."""
    for marker in reversed(_complete(store)):
        folder = marker.removesuffix(".json")
        try:
            step = json.loads(store.read(marker))["step"]
            weights = safetensors.torch.load(store.read(f"{folder}/{WEIGHTS}"))
            rest = torch.load(io.BytesIO(store.read(f"{folder}/state.pt")), weights_only=True)
        except FileNotFoundError:
            # Another attempt has just removed it.
            continue
        except (RuntimeError, ValueError, EOFError, UnpicklingError, safetensors.SafetensorError):
            # Damaged after it was published: the one before is as good, only older.
            continue
        return State(step, weights, rest)
    return None


def _complete(store: Store) -> Sequence[str]:
    """The markers of complete checkpoints, in the order of their steps."""
    return [name for name in store.sizes(CHECKPOINTS) if name.endswith(".json")]


def _attempt(marker: str) -> int:
    return int(marker.removesuffix(".json").rpartition("-")[2])


def _remove(store: Store, marker: str) -> None:
    # The marker goes first: what is half removed must not look complete.
    store.delete(marker)
    for name in store.sizes(marker.removesuffix(".json")):
        store.delete(name)
