"""Source: where the weights are that a training starts from, and their content.

In: `start.weights`. Out: a `Source`: the address of a file, which may lie on S3. Nothing in a file
is ever executed.

    source = find_source("out/train/3f2a90cc11d0ab42")    # a model of ours
    source = find_source("s3://bucket/resnet50.pth")
    source.load_into(network, keep_head=False)
"""

import difflib
import hashlib
import io
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from infra.downloads import local_file
from infra.errors import ProtegeError
from infra.store import open_store, split_uri
from models.published import PUBLISHED, Published, find_published
from models.registry import TIMM_PREFIX
from tasks.inference.weights import WEIGHTS, Description, find_description, shorten
from tasks.train.job import PROJECTION
from tasks.train.options import LABELLED
from tasks.train.start.projected import read_projection
from tasks.train.start.timm_weights import timm_file

if TYPE_CHECKING:
    from torch import Tensor

    from models.network import Network

HEAD = "head"  # the key of the projection head in a file of SimCLRv2-Pytorch
SAFETENSORS, ONNX = ".safetensors", ".onnx"
TORCH = (".pth", ".pt", ".bin", ".tar", ".torch", ".ckpt")
HEADER_BYTES = 100_000_000  # the format's own limit
LISTED = 3
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file of weights, and what is known of them without reading it."""

    uri: str
    published: Published | None = None

    def look(self) -> tuple[str, Description | None]:
        """The SHA-256 of the file, and what it says of itself, if protege wrote it.

        Raises ProtegeError when it cannot be read.
        """
        store, name = split_uri(self.uri)
        try:
            with store.local_file(name) as file:
                # A file of a disk has what typing.BinaryIO does not name.
                digest = hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()
                file.seek(0)
                size = int.from_bytes(file.read(8), "little")
                file.seek(0)
                header = file.read(8 + min(size, HEADER_BYTES)) if self._is_safetensors else b""
        except OSError as error:
            raise ProtegeError(f"weights {self.uri} cannot be read: {error}") from error
        return digest, find_description(header) if self._is_safetensors else None

    def load_into(self, network: "Network", *, keep_head: bool) -> None:
        """Load the weights, strictly; without their head, where it is not kept.

        Raises ProtegeError when they cannot be read, or are those of another network.
        """
        from models.state_dicts import load_published

        content = self._content()
        try:
            notes = load_published(network, content, keep_head=keep_head)
        except (RuntimeError, ValueError) as error:
            raise ProtegeError(f"weights {self.uri} do not fit the model: {error}") from error
        for note in notes:
            logger.warning("weights %s: %s", self.uri, note)

    def projection(self) -> "Mapping[str, Tensor] | None":
        """The tensors of a projection head beside the weights; None where there is none.

        Raises ProtegeError when the file cannot be read.
        """
        if self.has_projection_file:
            return read_projection(split_uri(self.uri)[0])
        if self._is_safetensors:
            return None  # this format has no tensors within tensors
        content = self._content()
        head = content.get(HEAD) if isinstance(content, Mapping) else None
        return head if isinstance(head, Mapping) else None

    @property
    def has_projection_file(self) -> bool:
        """Whether these are weights of ours with a projection head in a file beside them."""
        store, name = split_uri(self.uri)
        return name == WEIGHTS and store.exists(PROJECTION)

    def read(self) -> bytes:
        """The whole file. Raises ProtegeError."""
        store, name = split_uri(self.uri)
        try:
            return store.read(name)
        except OSError as error:
            raise ProtegeError(f"weights {self.uri} cannot be read: {error}") from error

    @property
    def _is_safetensors(self) -> bool:
        return self.uri.lower().endswith(SAFETENSORS)

    def _content(self) -> object:
        import safetensors.torch
        import torch

        data = self.read()
        try:
            if self._is_safetensors:
                return safetensors.torch.load(data)
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:
            # A torn or foreign file makes the unpickler fail in any way there is.
            raise ProtegeError(f"weights {self.uri} cannot be read: {_reason(error)}") from error


def names_place(field: str, text: str) -> bool:
    """Whether the text in a field is an address, and not empty or a name of weights or classes."""
    if field == "classes":
        return text not in ("", LABELLED)
    is_name = text.startswith(TIMM_PREFIX) or find_published(text) is not None
    return bool(text) and not (field == "weights" and is_name)


def find_source(weights: str) -> Source:
    """The file of the weights that somebody named; published ones are downloaded.

    Raises ProtegeError when there is none.
    """
    published = find_published(weights)
    if published is not None:
        return Source(str(local_file(published)), published)
    if weights.startswith(TIMM_PREFIX):
        return Source(str(timm_file(weights.removeprefix(TIMM_PREFIX))))
    try:
        if weights.lower().endswith((SAFETENSORS, ONNX, *TORCH)):
            store, name = split_uri(weights)
            if store.exists(name):
                return Source(weights)
        elif open_store(weights).exists(WEIGHTS):
            return Source(f"{weights.rstrip('/')}/{WEIGHTS}")
    except OSError as error:
        raise ProtegeError(f"start.weights: {weights} cannot be read: {error}") from error
    near = difflib.get_close_matches(weights, PUBLISHED, n=1)
    hint = f"did you mean {near[0]!r}? Or " if near else ""
    raise ProtegeError(
        f"start.weights: there is no file {weights}; {hint}give the path or the s3:// address of "
        "weights (.safetensors, .pth, .onnx), the folder of a training, timm/<name>, or a "
        f"published name ({', '.join(list(PUBLISHED)[:LISTED])}, ...)"
    )


def _reason(error: Exception) -> str:
    """Why a file of weights cannot be read, and what to do."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"it holds a {refused[1]} beside the weights, which would have to be executed. Save "
            "the weights alone: torch.save(network.state_dict(), path)"
        )
    return (
        f"it is no file of weights, or a damaged one ({shorten(error)}). Give a .safetensors "
        "file, or what torch.save(network.state_dict(), path) writes"
    )
