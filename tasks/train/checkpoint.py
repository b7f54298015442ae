"""Checkpoints: what a training needs to resume.

    <output>/checkpoints/step-000000400-000003/weights.safetensors   the network and its average
    <output>/checkpoints/step-000000400-000003/state.pt              the optimizer and the history
    <output>/checkpoints/step-000000400-000003.json      published last: the checkpoint is complete

The second number is the attempt. An attempt that was replaced may not know it yet: it writes beside
the one that has replaced it, and deletes none of its files. A resume takes the highest step of all.

The schedule, the random numbers and the position in the data are functions of the step, so the step
is their state.
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
from tasks.train.job import CHECKPOINTS

MAX_CHECKPOINTS = 2  # the newest may be the one that a failing disk has damaged


@dataclass(frozen=True)
class State:
    """A training after `step` steps. `networks` are state dicts by name."""

    step: int
    networks: Mapping[str, Mapping[str, Tensor]]
    optimizer: Mapping[str, Any]
    history: Mapping[str, Any]


def save_state(store: Store, state: State, attempt: int) -> None:
    """Publish a checkpoint; its marker comes last. Only the newest of older ones are kept."""
    folder = f"{CHECKPOINTS}/step-{state.step:09d}-{attempt:06d}"
    weights = {
        f"{network}.{name}": tensor
        for network, tensors in state.networks.items()
        for name, tensor in tensors.items()
    }
    store.replace(f"{folder}/{WEIGHTS}", encode_tensors(weights))
    sink = io.BytesIO()
    torch.save({"optimizer": state.optimizer, "history": state.history}, sink)
    store.replace(f"{folder}/state.pt", sink.getvalue())
    store.replace(f"{folder}.json", json.dumps({"step": state.step}).encode())
    own = [marker for marker in _complete(store) if _attempt(marker) <= attempt]
    for marker in own[:-MAX_CHECKPOINTS]:
        _remove(store, marker)


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
            # Damaged after it was published. The one before is as good, only older.
            continue
        return State(step, _by_network(weights), rest["optimizer"], rest["history"])
    return None


def _by_network(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        network, _, inner_name = name.partition(".")
        networks.setdefault(network, {})[inner_name] = tensor
    return networks


def _complete(store: Store) -> Sequence[str]:
    """The markers of complete checkpoints, in the order of their steps."""
    return [name for name in store.sizes(CHECKPOINTS) if name.endswith(".json")]


def _attempt(marker: str) -> int:
    return int(marker.removesuffix(".json").rpartition("-")[2])


def _remove(store: Store, marker: str) -> None:
    # The marker goes first: a checkpoint that is half removed must not look complete.
    store.delete(marker)
    for name in store.sizes(marker.removesuffix(".json")):
        store.delete(name)
