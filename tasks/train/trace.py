"""Trace: how large the values of each layer are in a step, and where one is no number first.

In: a network. Out: a `LayerValues` for each call of a layer, in order of execution.

    with Trace(network) as trace:
        loss(network(images_BCHW)).backward()
    first = next(layer for layer in trace.layers if layer.not_finite)
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass
class LayerValues:
    """A call of a layer: its output, and the gradient of the loss by its output.

    `call` counts the calls of the network, from 0. The largest values are those of finite numbers.
    """

    call: int
    name: str
    kind: str
    shape: tuple[int, ...]
    largest: float
    not_finite: int
    bad_images: tuple[int, ...]
    largest_gradient: float = 0.0
    bad_gradients: int = field(default=0)


class Trace:
    """The layers of a network while it is watched."""

    def __init__(self, network: nn.Module) -> None:
        self.layers: list[LayerValues] = []
        self._network = network
        self._call = -1
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Trace":
        watch = self._network.register_forward_pre_hook(self._begin_call)
        self._handles.append(watch)
        for name, module in self._network.named_modules():
            if not list(module.children()):
                hook = self._hook(name, type(module).__name__)
                self._handles.append(module.register_forward_hook(hook))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def of_call(self, call: int) -> list[LayerValues]:
        """The layers of one call of the network."""
        return [layer for layer in self.layers if layer.call == call]

    def _begin_call(self, _module: nn.Module, _inputs: Any) -> None:
        self._call += 1

    def _hook(self, name: str, kind: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            values = output.detach()
            finite = values.isfinite()
            rows = (~finite).flatten(1).any(dim=1).nonzero().flatten().tolist()
            layer = LayerValues(
                self._call,
                name,
                kind,
                tuple(values.shape),
                _largest(values),
                int((~finite).sum()),
                tuple(rows),
            )
            self.layers.append(layer)
            if output.requires_grad:
                output.register_hook(lambda gradient: _note_gradient(layer, gradient))

        return note


def _note_gradient(layer: LayerValues, gradient: Tensor) -> None:
    layer.largest_gradient = _largest(gradient)
    layer.bad_gradients = int((~gradient.isfinite()).sum())


def _largest(values: Tensor) -> float:
    """The largest magnitude of the finite values."""
    return float(torch.nan_to_num(values.float(), 0.0, 0.0, 0.0).abs().max())
