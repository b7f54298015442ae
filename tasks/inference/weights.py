"""Weights: the file of a finished model, which describes itself.

<output>/weights.safetensors      the tensors; network, classes and inputs are in its metadata
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.errors import ProtegeError
from models.registry import build
from tasks.contract import Output, bytes_digest
from tasks.images import Inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.network import Network

# torch is imported where it is needed: the names and the description are read without it.

WEIGHTS = "weights.safetensors"
METADATA = "protege"
MAX_REASON_LETTERS = 200


@dataclass(frozen=True)
class Description:
    """What weights are used by: the network, its classes and its inputs."""

    model: str
    classes: tuple[str, ...]
    inputs: Inputs

    def to_metadata(self) -> dict[str, str]:
        """As the text metadata of a safetensors file, which keeps no order of several entries."""
        body = {"model": self.model, "classes": self.classes, "inputs": self.inputs.model_dump()}
        return {METADATA: json.dumps(body, sort_keys=True, ensure_ascii=False)}

    @staticmethod
    def from_metadata(metadata: Mapping[str, str]) -> "Description":
        """The description in the metadata of a weights file of ours."""
        body = json.loads(metadata[METADATA])
        inputs = Inputs.model_validate(body["inputs"])
        return Description(body["model"], tuple(body["classes"]), inputs)


def encode_tensors(
    tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a safetensors file."""
    import safetensors.torch

    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata=dict(metadata) if metadata else None)


def save_weights(network: "nn.Module", description: Description) -> bytes:
    """The bytes of a weights file that describes itself."""
    return encode_tensors(network.state_dict(), description.to_metadata())


def read_description(weights: bytes) -> Description:
    """The description inside a weights file of ours. Raises ProtegeError for others."""
    description = find_description(weights)
    if description is None:
        raise ProtegeError("these weights do not say what they are; protege did not write them")
    return description


def find_description(weights: bytes) -> Description | None:
    """The description inside a safetensors file, if protege wrote it.

    Raises ProtegeError for a file of another format.
    """
    size = int.from_bytes(weights[:8], "little")
    try:
        metadata = json.loads(weights[8 : 8 + size]).get("__metadata__") or {}
        return Description.from_metadata(metadata) if METADATA in metadata else None
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ProtegeError("these are no weights in the safetensors format") from error


def load_network(output: Output) -> "tuple[Network, Description]":
    """The network of a finished training, in evaluation mode, on the CPU.

    Raises ProtegeError when the weights are not those that were published.
    """
    data = output.store.read(WEIGHTS)
    if bytes_digest(data) != output.weights:
        raise ProtegeError(
            f"{output.uri}/{WEIGHTS} is damaged: it is not what was published there. Delete this "
            "file and run again; then it is made again"
        )
    return parse_network(data)


def parse_network(weights: bytes) -> "tuple[Network, Description]":
    """The network of a weights file that describes itself, in evaluation mode, on the CPU.

    Raises ProtegeError for other files.
    """
    import safetensors.torch

    description = read_description(weights)
    try:
        network = build(description.model, len(description.classes))
        network.load_state_dict(safetensors.torch.load(weights))
    except (ValueError, RuntimeError, KeyError, safetensors.SafetensorError) as error:
        raise ProtegeError(
            f"these weights cannot be loaded as {description.model}: {shorten(error)}"
        ) from error
    return network.eval(), description


def shorten(error: Exception) -> str:
    """The class of an error and what it says, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:MAX_REASON_LETTERS]}"
