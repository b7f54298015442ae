"""Story: what the report is about: the outputs of a campaign, and what they are to its recipe."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.contract import Output


@dataclass(frozen=True)
class Role:
    """A model of a recipe: the role of its output, and how people call it.

    `training_title` is its title above the curve of its training.
    """

    name: str
    title: str
    training_title: str = ""


@dataclass(frozen=True)
class Story:
    """What happened in a campaign, and how to make it happen again.

    `outputs` are by role, in the order of the run. `models` are those that the recipe compares, in
    that order; `result` names the one that the campaign was run for, `compared_with` the one that
    it must beat; both may be empty. `spread` has one entry for each run of the same settings with
    another seed: seed, `<role>_top1` of these two, perhaps random_top1 and chosen_precision.
    """

    recipe: str
    campaign: str
    command: str
    outputs: Mapping[str, Output]
    models: tuple[Role, ...] = ()
    result: str = ""
    compared_with: str = ""
    spread: tuple[Mapping[str, float], ...] = ()

    def made_by(self, stage: str) -> Output | None:
        """The last output of a stage, if there is one."""
        outputs = [output for output in self.outputs.values() if output.stage == stage]
        return outputs[-1] if outputs else None

    def title(self, role: str) -> str:
        """How people call a model."""
        titles = {model.name: model.title for model in self.models}
        return titles.get(role, role.replace("_", " ").capitalize())

    def training_title(self, role: str) -> str:
        """How people call its training."""
        titles = {model.name: model.training_title for model in self.models}
        return titles.get(role) or self.title(role)
