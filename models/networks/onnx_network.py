"""ONNX: a finished network of any other program, run by onnxruntime, as a `Network`.

In: images_BCHW. Out: logits_BC. The content of the `.onnx` file is a buffer of the network, so that
weights files, copies and digests hold it like any other. Its outputs are the logits of its classes,
or, with a head of ours, features. Probabilities become their logarithms, which rank as logits do.

    network = OnnxNetwork(num_classes=0)
    network.open(Path("teacher.onnx").read_bytes(), size=224)
    network.num_outputs
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from models.network import Network

TOLERANCE = 1e-3  # of the sum of probabilities
SMALLEST = 1e-12  # probability that has a logarithm
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxNetwork(Network):
    """The outputs of a file, or a linear layer on them.

    Nothing in the file can be trained. `outputs` are those that are the logits of the classes; with
    a head of ours there are none.
    """

    HEAD = "fc"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.file: Tensor
        self.outputs: Tensor
        self.is_probability: Tensor
        self.register_buffer("file", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("outputs", torch.arange(num_classes))
        self.register_buffer("is_probability", torch.tensor(False))
        self._session: Any = None

    def open(self, data: bytes, size: int) -> None:
        """Take the content of a file. Raises ValueError when it is no network of such images."""
        self.file, self._session = torch.frombuffer(bytearray(data), dtype=torch.uint8), None
        try:
            # Not random, because building a network must draw nothing but its initial weights.
            pixels = torch.linspace(0, 1, 2 * 3 * size * size).view(2, 3, size, size)
            outputs_BD = self._run(pixels.numpy())
        except Exception as error:
            # onnxruntime has a class of errors for each reason, and no common one.
            reason = f"onnxruntime cannot run it on images of {size} pixels: {error}"
            raise ValueError(reason) from error
        if outputs_BD.ndim != 2:
            raise ValueError(
                f"its first output has the shape {outputs_BD.shape} for 2 images, and must have "
                "two dimensions: images and classes"
            )
        sums_B = outputs_BD.sum(axis=1)
        is_probability = outputs_BD.min() >= 0 and bool(np.all(np.abs(sums_B - 1) < TOLERANCE))
        self.is_probability = torch.tensor(is_probability)
        self.outputs = torch.arange(outputs_BD.shape[1])

    @property
    def num_outputs(self) -> int:
        """Number of outputs that are the logits of classes; 0 with a head of ours."""
        return len(self.outputs)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The first output of the file, shape (B, D)."""
        outputs_BD = self._run(images_BCHW.float().cpu().contiguous().numpy())
        features_BD = torch.from_numpy(outputs_BD).to(images_BCHW.device)
        return features_BD.clamp_min(SMALLEST).log() if self.is_probability else features_BD

    def logits(self, features_BD: Tensor) -> Tensor:
        """The outputs of the classes, or the head applied to all outputs: logits_BC."""
        return super().logits(features_BD) if self.has_head else features_BD[:, self.outputs]

    def with_classes(self, labels: Sequence[int]) -> Self:
        """A copy that knows these of the classes, in this order."""
        if self.has_head:
            return super().with_classes(labels)
        network = self.with_new_head(0)
        del network.fc
        network.outputs = self.outputs[list(labels)]
        return network

    @property
    def has_head(self) -> bool:
        """Whether a head of ours stands on the outputs."""
        return self.HEAD in self._modules

    def _replace_head(self, num_classes: int) -> None:
        width = self.head.in_features if self.has_head else len(self.outputs)
        self.fc = nn.Linear(width, num_classes).to(self.file.device)
        self.outputs = self.outputs[:0]

    def _run(self, images_BCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The first output for every image. A file with a fixed batch gets its batches."""
        session = self._opened()
        [source, *_], [target, *_] = session.get_inputs(), session.get_outputs()
        fixed = source.shape[0] if isinstance(source.shape[0], int) else 0
        batch = fixed or len(images_BCHW)
        pieces = []
        for first in range(0, len(images_BCHW), batch):
            piece = images_BCHW[first : first + batch]
            padding = [(0, batch - len(piece)), (0, 0), (0, 0), (0, 0)]
            [outputs] = session.run([target.name], {source.name: np.pad(piece, padding)})
            pieces.append(np.asarray(outputs, np.float32)[: len(piece)])
        return np.concatenate(pieces)

    def _opened(self) -> Any:
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            known = onnxruntime.get_available_providers()
            providers = [name for name in PROVIDERS if name in known]
            data = self.file.cpu().numpy().tobytes()
            self._session = onnxruntime.InferenceSession(data, options, providers=providers)
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        """What copies share: a session can be neither copied nor sent, and is opened anew."""
        return {**self.__dict__, "_session": None}

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take tensors of any size, and a head where there is one: the file decides on them."""
        for name in ("file", "outputs"):
            setattr(self, name, torch.empty_like(state[f"{prefix}{name}"]))
        self._session = None
        if f"{prefix}{self.HEAD}.weight" in state:
            num_classes, width = state[f"{prefix}{self.HEAD}.weight"].shape
            self.fc = nn.Linear(width, num_classes)
        super()._load_from_state_dict(state, prefix, *rest)
