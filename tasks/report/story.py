"""Story: what the page is about: the outputs of a campaign, and what they are to its recipe.

roles = (Role("teacher", "Teacher"), Role("student", "Student after fine-tuning"))
story = Story("billion-scale", campaign, command, outputs, roles, result="student")
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tasks.contract import Output


@dataclass(frozen=True)
class Role:
    """An output of a recipe, and how people call it.

    `title` stands in tables, `noun` in a sentence after "the", `training_title` above the curve of
    a training. An empty noun is the name, an empty training title the title. Not every campaign has
    an output that is not there `always`.
    """

    name: str
    title: str
    noun: str = ""
    training_title: str = ""
    always: bool = True


@dataclass(frozen=True)
class Story:
    """What happened in a campaign, and how to make it happen again.

    `outputs` are by role, in the order of the run. `roles` are all outputs that a finished campaign
    of the recipe has; its models in the order in which one would compare them. `result` names the
    model that the campaign was run for, `compared_with` the model that it must beat; both may be
    empty. `spread` has one entry for each run of the same settings with another seed: seed, and
    `<role>_top1` of these two models.

    What was chosen, scored and measured follows from the stages of the outputs and from their
    manifests, so that a recipe may have several teachers, generations or test sets.
    """

    recipe: str
    campaign: str
    command: str
    outputs: Mapping[str, Output]
    roles: tuple[Role, ...] = ()
    result: str = ""
    compared_with: str = ""
    spread: tuple[Mapping[str, float], ...] = ()

    @property
    def missing(self) -> list[str]:
        """The roles without an output: the campaign is not finished."""
        expected = (role.name for role in self.roles if role.always)
        return [name for name in expected if name not in self.outputs]

    def role(self, name: str) -> Role:
        """The role of this name with all its words; those of an undeclared one are its name."""
        words = name.replace("_", " ")
        declared = {role.name: role for role in self.roles}
        role = declared.get(name, Role(name, words[:1].upper() + words[1:]))
        return replace(
            role, noun=role.noun or words, training_title=role.training_title or role.title
        )

    def of_stage(self, stage: str) -> dict[str, Output]:
        """The outputs of a stage by role, in the order of the run."""
        return {role: output for role, output in self.outputs.items() if output.stage == stage}

    def sorted_by_role(self, names: Iterable[str]) -> list[str]:
        """Names in the order of the roles; those that the recipe does not declare come last."""
        order = [role.name for role in self.roles]
        return sorted(names, key=lambda name: order.index(name) if name in order else len(order))

    def content(self) -> dict[str, Any]:
        """Everything but the outputs, as plain values: what the page shows beside them."""
        return {
            "recipe": self.recipe,
            "campaign": self.campaign,
            "command": self.command,
            "roles": [asdict(role) for role in self.roles],
            "result": self.result,
            "compared_with": self.compared_with,
            "spread": [dict(run) for run in self.spread],
        }
