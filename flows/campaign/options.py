"""Options of recipes that belong to no stage; read without loading Prefect."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from tasks.options import Length, Options
from tasks.score import ScoreOptions
from tasks.topk import TopkOptions
from tasks.train import TrainOptions
from tasks.train.start.source import names_place

PATHS = ("source", "weights", "classes", "audit", "table")  # fields that name a place

# A network of a committee, much smaller than the teacher: it need not be good, but independent.
MEMBER = TrainOptions(model="resnet18", length=Length(amount=30, unit="epochs"))


def _absolute(address: str) -> str:
    return address if "://" in address else str(Path(address).absolute())


def _resolved(section: Options) -> Options:
    """The section, and those inside it, with absolute paths."""
    changed: dict[str, object] = {}
    for field in type(section).model_fields:
        value = getattr(section, field)
        if isinstance(value, Options):
            changed[field] = _resolved(value)
        elif field in PATHS and isinstance(value, str) and names_place(field, value):
            changed[field] = _absolute(value)
    return section.model_copy(update=changed)


class ApprovalOptions(Options):
    """When a run waits for a person or stops. A recipe names the stages before which it can."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset(
        {"before", "too_large", "teacher_at_chance", "max_copies_percent"}
    )

    before: str = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""
    too_large: Literal["stop", "go_on"] = "stop"
    """What to do when trainings seem to need more memory or time than the machine has."""
    teacher_at_chance: Literal["stop", "go_on"] = "stop"
    """What to do when the teacher, on images it has not learned from, is no better than chance."""
    max_copies_percent: float = Field(10, ge=0, le=100)
    """The run stops when more than this share of the test images are copies of labelled ones."""


class RecipeOptions(Options):
    """The root options of a recipe: a section for each role, in the order in which they run."""

    OPTIONAL_SOURCES: ClassVar[frozenset[str]] = frozenset()
    """Sections whose images need not be given."""
    OTHER_CLASSES: ClassVar[frozenset[str]] = frozenset()
    """Sections of trainings on other classes than those of the labels."""

    def check_labelled(self, *sections: str) -> None:
        """Raise ValueError for a section of labelled images that does not say so."""
        for name in sections:
            if not getattr(self, name).labelled:
                raise ValueError(f"{name}.labelled must be true: these images need classes")

    def check_committee(self, members: int, member: TrainOptions) -> None:
        """Raise ValueError for members that would learn nothing of their own."""
        if members and not member.length.amount and not member.is_linear:
            raise ValueError(
                "member.length is 0, so that all members would be alike, or know nothing: give a "
                "length, member.start.head=linear, or committee.members=0"
            )

    def check_top_p(self, topk: TopkOptions, score: ScoreOptions) -> None:
        """Raise ValueError for a choice among more classes of an image than are scored."""
        if topk.top_p > score.top_p:
            raise ValueError(
                f"topk.top_p ({topk.top_p}) must be at most score.top_p ({score.top_p})"
            )

    def check_crops(self, topk: TopkOptions, score: ScoreOptions) -> None:
        """Raise ValueError for crops that are to be dropped, but could not be found."""
        if topk.drop_crops and not score.descriptors:
            raise ValueError("topk.drop_crops needs score.descriptors=true: set both, or neither")

    @property
    def may_be_too_large(self) -> bool:
        """Whether somebody wants it to run, whatever it takes of the machine."""
        approval = getattr(self, "approval", None)
        return isinstance(approval, ApprovalOptions) and approval.too_large == "go_on"

    def resolved(self) -> Self:
        """The same options with absolute paths, so that they mean the same in any folder."""
        changed = {}
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, Options):
                changed[name] = _resolved(section)
        return self.model_copy(update=changed)

    def seeded(self, seed: int) -> Self:
        """The same options with every seed set."""
        changed = {}
        for name in type(self).model_fields:
            section = getattr(self, name)
            if "seed" in type(section).model_fields:
                changed[name] = section.model_copy(update={"seed": seed})
        return self.model_copy(update=changed)
