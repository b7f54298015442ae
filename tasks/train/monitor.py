"""Monitor: the loss of each step, and whether all processes should stop, without waiting.

In: for each step a tensor on the device. Out: its values, on a GPU some steps later, when they have
been computed long ago: reading a value at once would keep the device waiting at every step. The
delay is a number of steps, so that all processes see the same at the same step.

    monitor = StepMonitor(device)
    monitor.add(step, loss_and_stop, rank_losses)
    for seen in monitor.take(): ...
"""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

GPU_DELAY_STEPS = 2


@dataclass(frozen=True)
class Seen:
    """What was measured in a step: `step` counts from 0, `wants_stop` is of any process.

    The losses of the virtual ranks of this process are still on the device.
    """

    step: int
    loss: float
    wants_stop: bool
    rank_losses_R: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


class _Pending:
    """Two values on their way from the device."""

    def __init__(self, step: int, values_2: Tensor, rank_losses_R: Tensor) -> None:
        self.step, self._rank_losses_R = step, rank_losses_R
        self._event: torch.cuda.Event | None = None
        self._values_2 = values_2
        if values_2.is_cuda:
            # Without pinned memory, the copy would wait for the device.
            self._values_2 = torch.empty(2, dtype=values_2.dtype, pin_memory=True)
            self._values_2.copy_(values_2, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Seen:
        if self._event is not None:
            self._event.synchronize()
        loss, wants_stop = self._values_2.tolist()
        return Seen(self.step, loss, wants_stop > 0, self._rank_losses_R)


class StepMonitor:
    """The steps whose values were not looked at yet."""

    def __init__(self, device: torch.device, delay_steps: int | None = None) -> None:
        default = GPU_DELAY_STEPS if device.type == "cuda" else 0
        self._delay_steps = default if delay_steps is None else delay_steps
        self._pending: deque[_Pending] = deque()

    def add(self, step: int, values_2: Tensor, rank_losses_R: Tensor) -> None:
        """Note the loss of a step, and how many processes want to stop."""
        self._pending.append(_Pending(step, values_2, rank_losses_R))

    def take(self, *, everything: bool = False) -> list[Seen]:
        """The steps that are old enough; `everything` waits for the device, and takes all."""
        left = 0 if everything else self._delay_steps
        return [self._pending.popleft().read() for _ in range(len(self._pending) - left)]

    def is_finite(self) -> bool:
        """Whether the losses that nobody has taken are numbers; waits for the device."""
        return all(pending.read().is_finite for pending in self._pending)
