"""Cost: what a step of a training takes on this machine, before any work: memory, and time.

In: the options of a training and the number of classes. Out: a `StepCost`. Memory is calculated:
the parameters, their gradients, the state of the optimizer and the average, and what each layer
leaves for the backward pass, whose shapes come from a pass without data. Time is measured, with a
few random images.

torch is loaded in a process of its own, `python -m tasks.cost`, so that the caller stays small.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.apart import answer, answer_apart
from tasks.train import TrainOptions

BYTES = 4  # of a float32
PROCESS_BYTES = 600 << 20  # of a process with torch, before it has a network
MEASURED_PIXELS = 1 << 18  # of a step that is measured: enough for its time to be the layers'
WAITING_BATCHES = 6  # of a training: four wait, one is being decoded, and one is computed
LAYERS_AT_A_TIME = 3  # in a pass without training: what a layer reads, what it writes, and a skip
# For each parameter: momentum; of AdamW and RMSProp, the mean of the squares, too.
OPTIMIZER_FLOATS = {"sgd": 1, "lars": 1, "adamw": 2, "rmsprop": 2}
COSTLESS_PIXELS = 1 << 20  # of a batch: any machine has the memory for it
COSTLESS_WORK = 10**10  # pixels of a whole training: some hours at most


@dataclass(frozen=True)
class StepCost:
    """Bytes of one process; seconds are None where nothing was measured.

    `image_bytes` are of an image that is computed, `pixel_bytes` of one that waits for it.
    """

    parameters: int
    fixed_bytes: int
    image_bytes: int
    pixel_bytes: int
    forward_image_bytes: int
    image_seconds: float | None

    def step_bytes(self, at_once: int) -> int:
        """Memory of a process that computes so many images at once, those of a virtual rank."""
        return self.fixed_bytes + at_once * self.image_bytes

    def fitting_images(self, num_bytes: int) -> int:
        """The most images that a process of so many bytes can compute at once; 0 for none."""
        return max(0, num_bytes - self.fixed_bytes) // self.image_bytes

    def waiting_bytes(self, batch_size: int) -> int:
        """Memory of the images that are decoded ahead, in all processes of a training."""
        return WAITING_BATCHES * batch_size * self.pixel_bytes

    def forward_bytes(self, batch_size: int) -> int:
        """Memory of the network and of a pass without training."""
        return BYTES * self.parameters + batch_size * self.forward_image_bytes


def is_costless(options: TrainOptions, steps: int) -> bool:
    """Whether a training is so small that its cost need not be looked at."""
    pixels = options.batch_size * options.inputs.size**2
    known = not options.model.startswith("timm/")
    return known and pixels <= COSTLESS_PIXELS and pixels * steps <= COSTLESS_WORK


def step_costs(
    trainings: Mapping[str, TrainOptions], num_classes: int, *, measure: bool
) -> dict[str, StepCost]:
    """The cost of each of these trainings. Raises ProtegeError for a network that is not there."""
    if not trainings:
        return {}
    kinds = {role: _kind(options) for role, options in trainings.items()}
    asked = {kinds[role]: options.model_dump(mode="json") for role, options in trainings.items()}
    request = {
        "trainings": asked,
        "classes": num_classes,
        "measure": measure,
    }
    costs = answer_apart("tasks.cost", request)
    return {role: StepCost(**costs[kind]) for role, kind in kinds.items()}


def _kind(options: TrainOptions) -> str:
    """What two trainings have in common whose steps cost the same for an image."""
    floats = OPTIMIZER_FLOATS[options.optimizer]
    return f"{options.model} {options.inputs.size} {floats} {options.ema_decay > 0}"


def cost_of(options: TrainOptions, num_classes: int, *, measure: bool) -> StepCost:
    """The cost of one training, in this process."""
    import torch

    from models.registry import build

    with torch.device("meta"):
        network = build(options.model, num_classes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # Weights, gradients, the optimizer's and the average; then a checkpoint, whose weights, average
    # and momentum are copied and, in the background, encoded.
    kept = 1 + OPTIMIZER_FLOATS[options.optimizer] + (options.ema_decay > 0)
    copies = 1 + kept + 2 * kept
    values = 3 * options.inputs.size**2
    kept, largest = _floats(network, options)
    return StepCost(
        parameters=parameters,
        fixed_bytes=PROCESS_BYTES + copies * parameters * BYTES,
        image_bytes=BYTES * (3 * values + kept),
        pixel_bytes=values,
        forward_image_bytes=3 * values + BYTES * (2 * values + LAYERS_AT_A_TIME * largest),
        image_seconds=_measure(options, num_classes) if measure else None,
    )


def _floats(network: Any, options: TrainOptions) -> tuple[int, int]:
    """Floats that all layers leave for the backward pass, and the most of one layer, for an image.

    The output of each layer but those in place is kept, and its gradient is as large while it is
    computed; of those only few are there at a time.
    """
    import torch

    kept = largest = 0

    def count(module: Any, _inputs: Any, output: Any) -> None:
        nonlocal kept, largest
        if isinstance(output, torch.Tensor) and not getattr(module, "inplace", False):
            kept += output.numel()
            largest = max(largest, output.numel())

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    side = options.inputs.size
    network.train()
    # Two images: a norm over a map of one pixel refuses a single one.
    network.features(torch.empty(2, 3, side, side, device="meta"))
    for hook in hooks:
        hook.remove()
    return kept // 2, largest // 2


def _measure(options: TrainOptions, num_classes: int) -> float:
    """Seconds of a step for each image: the second one, for the first one sets up."""
    import torch

    from models.registry import build

    network = build(options.model, num_classes).train()
    side, seconds = options.inputs.size, 0.0
    num_images = max(2, min(options.batch_size, MEASURED_PIXELS // side**2))
    images_BCHW = torch.rand(num_images, 3, side, side)
    for _ in range(2):
        started = time.perf_counter()
        network(images_BCHW).logsumexp(dim=1).sum().backward()
        seconds = time.perf_counter() - started
    return seconds / num_images


def _costs(request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        role: asdict(
            cost_of(
                TrainOptions.model_validate(options),
                request["classes"],
                measure=request["measure"],
            )
        )
        for role, options in request["trainings"].items()
    }


if __name__ == "__main__":
    answer(_costs)
