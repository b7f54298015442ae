"""Recipes: what can be run, by name.

In: a name. Out: a `Recipe`. A recipe is a folder: `method.py` has the function of (run, options),
`options.py` the class of its options, `presets.py` whole settings, `plan.py` what a campaign will
take, `roles.py` the words for its outputs. They are imported when they are asked for, so that
listing recipes takes no time.
"""

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from infra.errors import ProtegeError

if TYPE_CHECKING:
    from flows.campaign.options import RecipeOptions
    from flows.campaign.run import Run
    from tasks.contract import Output
    from tasks.estimate import Estimate
    from tasks.report import Role


NUMBERED = re.compile(r"_(\d+)$")  # the role of an output of a generation
EACH = "{n}"  # its number, in the roles of a recipe
DEFAULT = "default"  # the preset that changes nothing


@dataclass(frozen=True)
class Recipe:
    """A recipe: where it stands, its presets, and what its outputs are to it.

    `result` is the role of the model that a campaign is run for, `compared_with` that of the model
    that it must beat; `roles.py` names all outputs.
    `sections` names the sections of a role that is not called as its role: an option of it stands
    in the first one that has such a field. `{n}` is the number of a generation, here and in roles.
    `without_gpu` is the preset that a command takes on a machine without a GPU, where nobody names
    one: what an option is by default is meant for GPUs.
    Retraining holds images of the section `labelled` out, and may keep the model `teacher`.
    """

    name: str
    about: str
    module: str
    function: str
    options: str
    presets: Mapping[str, str] = field(
        default_factory=lambda: {DEFAULT: "every option's own default"}
    )
    without_gpu: str = ""
    result: str = ""
    compared_with: str = ""
    labelled: str = ""
    teacher: str = ""
    sections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def _sections(self, role: str) -> tuple[str, ...]:
        family = NUMBERED.sub("", role)
        named = self.sections.get(role) or self.sections.get(f"{family}_{EACH}")
        return named or (family,)

    def section_of(self, role: str) -> str:
        """The section with the options of a role; those of a generation are those of all."""
        return self._sections(role)[0]

    def option_of(self, role: str, option: str) -> str:
        """The full name of an option of a role: `length` of a baseline is `baseline.length`."""
        default, own = self.load_options()(), option.partition(".")[0]
        sections = self._sections(role)
        found = (name for name in sections if hasattr(getattr(default, name, None), own))
        return f"{next(found, sections[0])}.{option}"

    @property
    def roles(self) -> "tuple[Role, ...]":
        """Its outputs, and among them its models in the order in which one would compare them."""
        roles: tuple[Role, ...] = import_module(f"{self.module}.roles").ROLES
        return roles

    def roles_of(self, outputs: Iterable[str]) -> "tuple[Role, ...]":
        """Its roles, those of a generation once for each that has such an output."""
        names = set(outputs)
        numbers = sorted({int(found[1]) for name in names if (found := NUMBERED.search(name))})
        roles: list[Role] = []
        for role in self.roles:
            if EACH not in role.name:
                roles.append(role)
                continue
            numbered = (_numbered(role, number) for number in numbers)
            roles += [role for role in numbered if role.name in names]
        return tuple(roles)

    def name_of(self, role: str) -> str:
        """The name of a model within a sentence, on the screen and in tables alike."""
        titles = {known.name: known.title for known in self.roles_of([role])}
        title = titles.get(role, role)
        return title[:1].lower() + title[1:]

    def label_of(self, role: str) -> str:
        """The name of a role with the section that its options stand in."""
        name, section = self.name_of(role), self.section_of(role)
        return name if section == name else f"{name} ({section})"

    def load_method(self) -> "Callable[[Run, Any], Mapping[str, Output]]":
        """The recipe itself, as a function of (run, options)."""
        method: Callable[[Run, Any], Mapping[str, Output]]
        method = getattr(import_module(f"{self.module}.method"), self.function)
        return method

    def load_options(self) -> "type[RecipeOptions]":
        """The class of the root options."""
        module = import_module(f"{self.module}.options")
        options: type[RecipeOptions] = getattr(module, self.options)
        return options

    def preset(self, name: str) -> "RecipeOptions":
        """The options of a preset; `default` is every option's own. Raises ProtegeError."""
        if name == DEFAULT:
            return self.load_options()()
        if name not in self.presets:
            known = ", ".join(self.presets)
            raise ProtegeError(f"no preset {name!r}; there are: {known}")
        module = import_module(f"{self.module}.presets")
        options: RecipeOptions = getattr(module, name.replace("-", "_"))()
        return options

    def plan(
        self,
        options: "RecipeOptions",
        labelled_images: int,
        classes: int,
        pile_images: int | None = None,
    ) -> "Estimate":
        """What a campaign will take, before anything runs; a pile may not have been counted."""
        estimate: Estimate
        module = import_module(f"{self.module}.plan")
        estimate = module.plan(options, labelled_images, classes, pile_images)
        return estimate

    def run(
        self, run: "Run", options: "RecipeOptions", started: float | None = None
    ) -> "tuple[Mapping[str, Output], dict[str, Any]]":
        """Run the recipe to its end, in the campaign of the run; its models, and the summary."""
        from flows.campaign.summary import summarise

        began = time.perf_counter() if started is None else started
        models = self.load_method()(run, options)
        result = summarise(run, time.perf_counter() - began)
        run.finish(result)
        return models, result


def _numbered(role: "Role", number: int) -> "Role":
    """The role of one generation."""

    def numbered(text: str) -> str:
        return text.replace(EACH, str(number))

    return replace(
        role,
        name=numbered(role.name),
        title=numbered(role.title),
        noun=numbered(role.noun),
        training_title=numbered(role.training_title),
    )


# Of the outputs that billion-scale and semi-weakly have in common.
RANKING_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "pretrained": ("student",),
    "student": ("fine_tune", "student"),
    "supervised": ("baseline", "student"),
    "baseline": ("fine_tune", "student"),
    "labelled_lessons": ("gather",),
    "agreement": ("committee",),
    "member_lessons_{n}": ("gather",),
}

BILLION_SCALE = Recipe(
    name="billion-scale",
    about="Teacher, best K of each class, student, fine-tuning (Yalniz et al. 2019)",
    module="flows.billion_scale",
    function="billion_scale",
    options="BillionScale",
    presets={
        DEFAULT: "for GPUs: a ResNet-50 teaches a ResNet-18 at 224 pixels, for ImageNet's lengths",
        "photos": "few labels, photographs or drawings, a laptop: starts from ImageNet's weights",
        "small": "few labels, some thousand pictures, a laptop: small networks, minutes",
        "digits": "the demo: 50 labelled digits, a pile of 11,950 cells, on a laptop",
        "fashion": "1,000 labelled photographs of goods, a pile of 59,000, on a laptop",
        "icons": "5 to 20 labelled icons of each of 60 ideas, a pile of 40,000, on a laptop",
        "imagenet-yfcc": "the paper's setting: ImageNet-1k and YFCC100M, a ResNet-50 student",
    },
    without_gpu="photos",
    result="student",
    compared_with="baseline",
    labelled="labelled",
    teacher="teacher",
    sections=RANKING_SECTIONS,
)

SEMI_WEAKLY = Recipe(
    name="semi-weakly",
    about="Billion-scale with a teacher that learned tags before the labels (Yalniz et al. 2019)",
    module="flows.semi_weakly",
    function="semi_weakly",
    options="SemiWeakly",
    presets={
        DEFAULT: "for GPUs: a ResNet-50 learns tags, and teaches a ResNet-18 at 224 pixels",
        "small": "few labels, some thousand tagged pictures, a laptop: small networks, minutes",
        "digits": "50 labelled digits, a pile of 11,950 cells with made-up words, on a laptop",
        "fashion": "1,000 labelled photographs of goods, 59,000 with made-up words, on a laptop",
        "icons": "60 ideas of icons in a pile of 40,000 with the words of their names, a laptop",
        "imagenet-tags": "the paper's setting: ImageNet and 940 million images with hashtags",
    },
    without_gpu="small",
    result="student",
    compared_with="baseline",
    labelled="labelled",
    sections={
        **RANKING_SECTIONS,
        "tag_lessons": ("gather",),
        "teacher": ("teacher", "tag_teacher"),
        "tag_student": ("weakly", "student"),
        "weakly": ("teacher", "student"),
    },
)

SIMCLR_V2 = Recipe(
    name="simclr-v2",
    about="Contrastive pre-training, few labels, distillation (SimCLRv2, Chen et al. 2020)",
    module="flows.simclr_v2",
    function="simclr_v2",
    options="SimclrV2",
    presets={
        DEFAULT: "for a GPU: a ResNet-50 learns without labels, and teaches a ResNet-18",
        "small": "some thousand pictures, a laptop: small networks, minutes",
        "digits": "50 labelled digits, a pile of 11,950 cells, on a laptop",
        "fashion": "1,000 labelled photographs of goods, a pile of 59,000, on a laptop",
        "imagenet": "the paper's setting: ImageNet, 1 % of its labels, a ResNet-50",
    },
    without_gpu="small",
    result="student",
    compared_with="baseline",
    labelled="labelled",
    sections={
        "pretrained": ("pretrain",),
        "linear": ("pretrain",),
        "teacher": ("fine_tune", "pretrain"),
        "self_distilled": ("self_distillation", "pretrain"),
        "baseline": ("baseline", "student"),
        "labelled_lessons": ("gather",),
        "pile_lessons": ("gather",),
    },
)

NOISY_STUDENT = Recipe(
    name="noisy-student",
    about="Noised students learn pseudo-labels, generation by generation (Xie et al. 2020)",
    module="flows.noisy_student",
    function="noisy_student",
    options="NoisyStudent",
    presets={
        DEFAULT: "for GPUs: ResNet-50s of three generations at 224 pixels",
        "small": "few labels, some thousand pictures, a laptop: small networks, minutes",
        "digits": "50 labelled digits, a pile of 11,950 cells, on a laptop",
        "fashion": "1,000 labelled photographs of goods, a pile of 59,000, on a laptop",
        "imagenet-jft": "the paper's setting: ImageNet and JFT-300M, EfficientNet-L2 students",
    },
    without_gpu="small",
    result="student",
    compared_with="baseline",
    labelled="labelled",
    teacher="teacher",
    sections={
        "student": ("fix_res", "student"),
        "student_{n}": ("student",),
        "audit_{n}": ("evaluate",),
        "agreement_{n}": ("committee",),
        "member_lessons_{n}": ("gather",),
        "filter_score": ("score",),
        "supervised": ("baseline", "student"),
        "baseline": ("fix_res", "student"),
        "labelled_lessons": ("gather",),
    },
)

RECIPES = {recipe.name: recipe for recipe in (BILLION_SCALE, SEMI_WEAKLY, SIMCLR_V2, NOISY_STUDENT)}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ProtegeError with the nearest one."""
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(RECIPES)}"
        raise ProtegeError(f"there is no recipe {name!r}; {hint}")
    return RECIPES[name]
