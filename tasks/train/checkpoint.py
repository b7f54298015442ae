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
from torch import Tensor, nn

from infra.errors import ProtegeError
from infra.storage import Store, split_uri
from models.zoo import build
from tasks.contract import Output, bytes_digest, load_manifest
from tasks.train.names import CHECKPOINTS, WEIGHTS
from tasks.train.options import Inputs

METADATA = "protege"
KEEP = 2  # the newest may be the one that a dying disk has damaged


@dataclass(frozen=True)
class Description:
    """What one must know to use weights: the network, its classes and its inputs."""

    model: str
    classes: tuple[str, ...]
    inputs: Inputs

    def to_metadata(self) -> dict[str, str]:
        """As the text metadata of a safetensors file, which keeps no order of several entries."""
        told = {"model": self.model, "classes": self.classes, "inputs": self.inputs.model_dump()}
        return {METADATA: json.dumps(told, sort_keys=True, ensure_ascii=False)}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> "Description":
        """The description in the metadata of a weights file of ours."""
        told = json.loads(metadata[METADATA])
        inputs = Inputs.model_validate(told["inputs"])
        return Description(told["model"], tuple(told["classes"]), inputs)


@dataclass(frozen=True)
class State:
    """A training in the middle: `step` steps are done."""

    step: int
    weights: Mapping[str, Tensor]
    rest: Mapping[str, Any]


def save_weights(network: nn.Module, description: Description) -> bytes:
    """The bytes of a weights file that says of itself what it is."""
    return _encode(network.state_dict(), description.to_metadata())


def read_description(weights: bytes) -> Description:
    """The description inside a weights file of ours. Raises ProtegeError for others."""
    size = int.from_bytes(weights[:8], "little")
    metadata = json.loads(weights[8 : 8 + size]).get("__metadata__", {})
    if METADATA not in metadata:
        raise ProtegeError("these weights do not say what they are; protege did not write them")
    return Description.from_metadata(metadata)


def load_network(output: Output) -> tuple[nn.Module, Description]:
    """The network of a finished training, in evaluation mode, on the CPU.

    Raises ProtegeError when the weights are not those that were published.
    """
    data = output.store.read(WEIGHTS)
    if bytes_digest(data) != load_manifest(output)["extra"]["weights"]:
        raise ProtegeError(
            f"{output.uri}/{WEIGHTS} is damaged: it is not what was published there. Delete this "
            "file and run again; then it is made again"
        )
    description = read_description(data)
    network = build(description.model, len(description.classes))
    network.load_state_dict(safetensors.torch.load(data))
    return network.eval(), description


def load_given(uri: str, network: nn.Module) -> None:
    """Load weights that somebody else has published, strictly. Raises ProtegeError."""
    store, name = split_uri(uri)
    try:
        data = store.read(name)
    except OSError as error:
        raise ProtegeError(f"checkpoint {uri} cannot be read: {error}") from error
    try:
        if name.endswith(".safetensors"):
            weights = safetensors.torch.load(data)
        else:
            weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            weights = weights.get("state_dict", weights)
        network.load_state_dict(weights)
    except (RuntimeError, ValueError, UnpicklingError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ProtegeError(f"checkpoint {uri} does not fit the model: {reason}") from error


def save_state(store: Store, state: State, attempt: int) -> None:
    """Publish a checkpoint; its marker comes last. Older ones but for the newest are removed."""
    folder = f"{CHECKPOINTS}/step-{state.step:09d}-{attempt:06d}"
    store.replace(f"{folder}/{WEIGHTS}", _encode(state.weights))
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


def _encode(weights: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    plain = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(plain, metadata=metadata)


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
