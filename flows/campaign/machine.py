"""Machine: whether the trainings of a campaign fit this machine, in memory and in time.

In: an estimate of the work and the number of classes. Out: the same estimate with what each step
takes, and a ProtegeError with the options that would fit where one does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flows.recipes import Recipe
from infra.devices import gpu_count, gpu_memory, memory_limit
from infra.errors import ProtegeError
from infra.settings import Settings
from models.registry import ONNX
from tasks.cost import PROCESS_BYTES, StepCost, is_costless, step_costs
from tasks.estimate import Estimate, Work, show_duration
from tasks.train import TrainOptions

USABLE = 0.8  # of the memory: the rest is for what else runs
MAX_SECONDS = 3 * 24 * 3600.0
MIN_RANK_IMAGES = 8  # of fewer, batch norm learns little
FORWARD_SHARE = 1 / 3  # of a step is the pass that scores an image
GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """What one training may use: the memory of a device, and how many processes share a batch."""

    device: str
    memory_bytes: int
    processes: int

    @staticmethod
    def here() -> "Machine":
        """This machine, as a training will see it."""
        processes = Settings().training_processes().count
        if gpu_count():
            return Machine("each GPU", gpu_memory(), processes)
        return Machine("this machine", memory_limit(), processes)

    @property
    def has_gpu(self) -> bool:
        """Whether a device computes that nothing was measured on."""
        return self.device != "this machine"

    def step_bytes(self, cost: StepCost, options: TrainOptions, ranks: int = 0) -> int:
        """Memory that a step takes of that of the device, with so many virtual ranks.

        A process computes one virtual rank after the other, whose layers are then free again.
        """
        ranks = ranks or options.num_virtual_ranks
        one = cost.step_bytes(options.batch_size // ranks)
        if self.has_gpu:
            return one - PROCESS_BYTES
        return min(self.processes, ranks) * one + cost.waiting_bytes(options.batch_size)

    def fitting_ranks(self, cost: StepCost, options: TrainOptions) -> int:
        """The fewest virtual ranks of some images each that fit; 0 where none do."""
        for ranks in range(1, options.batch_size // MIN_RANK_IMAGES + 1):
            if options.batch_size % ranks == 0 and self.fits(self.step_bytes(cost, options, ranks)):
                return ranks
        return 0

    def fits(self, num_bytes: int) -> bool:
        """Whether the device has so much memory to spare."""
        return num_bytes <= USABLE * self.memory_bytes


def needs_look(estimate: Estimate) -> bool:
    """Whether a training is large enough for its cost to matter."""
    return any(
        work.training is not None and not is_costless(work.training, work.units)
        for work in estimate.works
    )


def with_costs(
    estimate: Estimate, num_classes: int, *, every: bool, measure: bool = True
) -> Estimate:
    """The estimate with the cost of a step; of trainings that are surely small only for `every`."""
    looked_at = {
        work.role: work.training
        for work in estimate.works
        if work.training is not None
        # What a file of onnx takes is not known from its layers.
        and work.training.model != ONNX
        and (every or not is_costless(work.training, work.units))
    }
    # Only what this machine computes itself can be measured on it, and only without a GPU.
    measure = measure and bool(looked_at) and not Settings().training.hosts and not gpu_count()
    costs = step_costs(looked_at, num_classes, measure=measure)
    works = (_costed(work, costs.get(work.role)) for work in estimate.works)
    return replace(estimate, works=tuple(works))


def _costed(work: Work, cost: StepCost | None) -> Work:
    if cost is None or work.training is None:
        return work
    seconds = work.seconds
    if cost.image_seconds is not None and seconds is None:
        images = work.units if work.stage == "score" else work.units * work.training.batch_size
        share = FORWARD_SHARE if work.stage == "score" else 1
        seconds = images * share * cost.image_seconds
    return replace(work, cost=cost, seconds=seconds, rate_from=work.rate_from or "this machine")


def check_machine(recipe: Recipe, estimate: Estimate) -> None:
    """Raise ProtegeError where a step has not the memory, or all steps take days."""
    costed = [work for work in estimate.works if work.cost is not None and work.stage == "train"]
    if not costed or Settings().training.hosts:
        return  # what other machines have is not known
    machine = Machine.here()
    for work in costed:
        assert work.cost is not None
        assert work.training is not None
        needed = machine.step_bytes(work.cost, work.training)
        if work.units and not machine.fits(needed):
            raise ProtegeError(_too_large(recipe, work, work.cost, machine, needed))
    seconds = sum(work.seconds or 0 for work in costed)
    if seconds > MAX_SECONDS:
        longest = max(costed, key=lambda work: work.seconds or 0)
        raise ProtegeError(_too_long(recipe, longest, seconds))


def _too_large(recipe: Recipe, work: Work, cost: StepCost, machine: Machine, needed: int) -> str:
    assert work.training is not None
    options, ranks = work.training, machine.fitting_ranks(cost, work.training)
    if ranks:
        remedy = f"set {recipe.option_of(work.role, 'virtual_ranks')}={ranks}"
    else:
        remedy = f"lower {recipe.option_of(work.role, 'inputs.size')}"
    at_once = options.batch_size // options.num_virtual_ranks
    return (
        f"{recipe.name_of(work.role)}: a step of {options.model} on {at_once:,} images at once, of "
        f"{options.inputs.size} pixels, takes about {needed / GIB:.1f} GiB, and "
        f"{machine.device} has {machine.memory_bytes / GIB:.1f}: {remedy}, "
        f"{_smaller(recipe, work)}"
    )


def _too_long(recipe: Recipe, work: Work, seconds: float) -> str:
    return (
        f"the trainings would take about {show_duration(seconds)} on this machine, most of it "
        f"the {recipe.name_of(work.role)} ({work.units:,} steps): shorten "
        f"{recipe.option_of(work.role, 'length')}, {_smaller(recipe, work)}"
    )


def _smaller(recipe: Recipe, work: Work) -> str:
    """What helps in every case, in words that hold for the command line, the form and Python."""
    return (
        f"take a smaller {recipe.option_of(work.role, 'model')}, or the preset small; "
        "approval.too_large=go_on runs it as it is"
    )


def lines_of(recipe: Recipe, estimate: Estimate, name: Callable[[str], str]) -> list[str]:
    """A line for each stage, under the name that it has everywhere, with its memory and time."""
    machine = Machine.here() if any(work.cost for work in estimate.works) else None
    lines = []
    for work in estimate.works:
        # Models have names; what other stages do is called as the stage.
        line = str(replace(work, role=name(work.role) if work.stage == "train" else work.role))
        if machine and work.cost and work.training and work.stage == "train":
            needed = machine.step_bytes(work.cost, work.training) / GIB
            line += f"; {work.cost.parameters:,} parameters, about {needed:.1f} GiB of memory"
        lines.append(line)
    known = [work.seconds for work in estimate.works if work.seconds is not None]
    if known:
        lines.append(f"in all about {show_duration(sum(known))}, shards and report not counted")
    return lines
