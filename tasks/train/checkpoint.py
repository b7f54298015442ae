"""Checkpoints: what a training needs to resume.

    <output>/checkpoints/step-000000400-000003/weights.safetensors   the network and its average
    <output>/checkpoints/step-000000400-000003/state.pt              the optimizer, the history, ...
    <output>/checkpoints/step-000000400-000003.json      published last, with the digests of both

The second number is the attempt. An attempt that was replaced may not know it yet: it writes beside
the one that has replaced it, and deletes none of its files. A resume takes the highest step of all.
A checkpoint whose bytes are not those that were written is passed over, with a warning; one that is
whole and cannot be read here is an error, because to begin anew would lose what it holds.

The schedule, the random numbers and the position in the data are functions of the step, so the step
is their state. No checkpoint is the best one: nothing is measured on images that are held out while
a training runs, and the training loss does not say which weights are better on others.
"""

import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from infra.errors import ProtegeError
from infra.store import Store
from tasks.contract import bytes_digest
from tasks.inference.weights import WEIGHTS, encode_tensors
from tasks.train.job import CHECKPOINTS

STATE = "state.pt"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """A training after `step` steps. `networks` are state dicts by name.

    `compiled` is whether the network was, because it rounds differently then.
    """

    step: int
    networks: Mapping[str, Mapping[str, Tensor]]
    optimizer: Mapping[str, Any]
    history: Mapping[str, Any]
    compiled: bool


def snapshot(state: State) -> State:
    """A copy in the memory of the CPU, which later steps do not change."""
    return State(
        state.step,
        _copied(state.networks),
        _copied(state.optimizer),
        _copied(state.history),
        state.compiled,
    )


def is_finite(state: State) -> bool:
    """Whether all numbers of the networks and the optimizer are finite."""
    return not not_finite(state)


def not_finite(state: State) -> list[str]:
    """The tensors of the networks and the optimizer with a number that is not finite."""
    tensors = [*_tensors(state.networks), *_tensors(state.optimizer, "optimizer.")]
    return [
        name
        for name, tensor in tensors
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def save_state(store: Store, state: State, attempt: int, keep: int) -> None:
    """Publish a checkpoint; its marker comes last. Of older ones, the newest are kept.

    `keep` is their number with this one; with 1, a damaged one leaves nothing to resume from.
    """
    folder = f"{CHECKPOINTS}/step-{state.step:09d}-{attempt:06d}"
    weights = {
        f"{network}.{name}": tensor
        for network, tensors in state.networks.items()
        for name, tensor in tensors.items()
    }
    sink = io.BytesIO()
    rest = {"optimizer": state.optimizer, "history": state.history, "compiled": state.compiled}
    torch.save(rest, sink)
    files = {WEIGHTS: encode_tensors(weights), STATE: sink.getvalue()}
    for name, data in files.items():
        store.replace(f"{folder}/{name}", data)
    digests = {name: bytes_digest(data) for name, data in files.items()}
    marker = {"step": state.step, "digests": digests}
    store.replace(f"{folder}.json", json.dumps(marker).encode())

    # By the time of writing: an attempt may begin at a lower step than the last one has reached.
    written = sorted(_complete(store), key=lambda marker: (_attempt(marker), marker))
    own = [marker for marker in written if _attempt(marker) <= attempt]
    for older in own[:-keep]:
        _remove(store, older)


def last_state(store: Store) -> State | None:
    """The whole checkpoint with the highest step, of any attempt, or None.

    Raises ProtegeError when it cannot be read here.
    """
    for marker in reversed(_complete(store)):
        folder = marker.removesuffix(".json")
        try:
            said = json.loads(store.read(marker))
            files = {name: store.read(f"{folder}/{name}") for name in (WEIGHTS, STATE)}
        except FileNotFoundError:
            # Another attempt has just removed it.
            continue
        except ValueError:
            said, files = {}, {}
        digests = {name: bytes_digest(data) for name, data in files.items()}
        if files and said.get("digests") == digests:
            return _parse(f"{store.uri}/{folder}", int(said["step"]), files)
        logger.warning("%s/%s is damaged and is passed over", store.uri, folder)
    return None


def _parse(uri: str, step: int, files: Mapping[str, bytes]) -> State:
    """Read on the CPU, whatever wrote it: this machine may have another device, or none."""
    try:
        weights = safetensors.torch.load(files[WEIGHTS])
        rest = torch.load(io.BytesIO(files[STATE]), map_location="cpu", weights_only=True)
    except Exception as error:
        # The bytes are those that were written, so nothing is gained by an older checkpoint.
        raise ProtegeError(
            f"the checkpoint {uri} is whole, but cannot be read here ({error}). Resume with the "
            "version of torch that wrote it, or delete it to begin with the one before"
        ) from error
    networks = _by_network(weights)
    return State(step, networks, rest["optimizer"], rest["history"], rest["compiled"])


def _copied(value: Any) -> Any:
    """The same mappings and lists, with copies of all tensors."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of mappings and lists in one another, with their names."""
    if isinstance(value, Tensor):
        yield path.removesuffix("."), value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{path}{key}.")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _tensors(inner, f"{path}{number}.")


def _by_network(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        network, _, inner_name = name.partition(".")
        networks.setdefault(network, {})[inner_name] = tensor
    return networks


def _complete(store: Store) -> list[str]:
    """The markers of complete checkpoints, in the order of their steps."""
    return sorted(name for name in store.sizes(CHECKPOINTS) if name.endswith(".json"))


def _attempt(marker: str) -> int:
    return int(marker.removesuffix(".json").rpartition("-")[2])


def _remove(store: Store, marker: str) -> None:
    # The marker goes first: a checkpoint that is half removed must not look complete.
    store.delete(marker)
    for name in store.sizes(marker.removesuffix(".json")):
        store.delete(name)
