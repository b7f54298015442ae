"""Estimate: what work will take, as a value that adds up.

In: what a stage says of the work before it. Out: an `Estimate`, which plans and approvals show in
the same way. Rates come from outputs that the same stage has made before, where there are any.

    estimate = estimate_training("teacher", options, 1_281_167) + estimate_scoring("score", pile)
    for line in estimate.lines(): ...
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tasks.contract import Output

if TYPE_CHECKING:
    from tasks.cost import StepCost
    from tasks.train import TrainOptions


@dataclass(frozen=True)
class Work:
    """One stage to run: how many units (steps of a training, else images) it will take.

    Another run of the stage tells a rate if its options have the values of `alike`. `seconds` is
    None while no rate is known. `training` are the options of the network that computes, `cost`
    what a step of it takes here.
    """

    role: str
    stage: str
    units: int
    text: str
    alike: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    rate_from: str = ""
    training: "TrainOptions | None" = None
    cost: "StepCost | None" = None

    def __str__(self) -> str:
        text = f"{self.role}: {self.text}"
        if self.seconds is None:
            return text
        return f"{text}; about {show_duration(self.seconds)} at the rate of {self.rate_from}"

    def at_rate_of(self, output: Output, source: str) -> "Work | None":
        """The same work with its seconds, at the rate of that output; None where it has none."""
        if output.stage != self.stage or output.reused:
            return None
        if any(output.options.get(name) != value for name, value in self.alike.items()):
            return None
        extra = output.body["extra"]
        units = extra["steps"] if self.stage == "train" else output.rows_in
        if not units:
            return None
        return replace(self, seconds=self.units * output.seconds / units, rate_from=source)


@dataclass(frozen=True)
class Estimate:
    """Stages that run one after the other, and what is doubtful about them."""

    works: tuple[Work, ...] = ()
    doubts: tuple[str, ...] = ()

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate((*self.works, *other.works), (*self.doubts, *other.doubts))

    @property
    def seconds(self) -> float | None:
        """Seconds of all stages; None when one has no rate."""
        known = [work.seconds for work in self.works if work.seconds is not None]
        return sum(known) if len(known) == len(self.works) else None

    def with_rates(self, made: Iterable[tuple[str, Mapping[str, Output]]]) -> "Estimate":
        """The same with seconds, by what was made before: (name of the campaign, its outputs)."""
        earlier = list(made)
        return replace(self, works=tuple(_rated(work, earlier) for work in self.works))

    def lines(self) -> list[str]:
        """A line for each stage, and their sum where every rate is known."""
        lines = [str(work) for work in self.works]
        if len(lines) > 1 and self.seconds is not None:
            lines.append(f"in all about {show_duration(self.seconds)}")
        return lines


def _rated(work: Work, earlier: Iterable[tuple[str, Mapping[str, Output]]]) -> Work:
    for campaign, outputs in earlier:
        if work.role in outputs:
            rated = work.at_rate_of(outputs[work.role], campaign)
            if rated is not None:
                return rated
    return work


def show_duration(seconds: float) -> str:
    """Seconds as days, hours and minutes."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{hours / 24:,.0f} days"
    return f"{hours:,} h {minutes} min" if hours else f"{max(1, minutes)} min"
