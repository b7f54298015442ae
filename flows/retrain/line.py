"""Line: a campaign that a person has started, and the campaigns that repeat it.

In: a root, and what names a line: one of its campaigns, a champion, a source. Out: the `Line`, and
the options of its next campaign. These are those of the first campaign, with images held out and
perhaps with the teacher that the line has already; so a teacher that was kept can be trained again.

    line = find_line(root, campaign="", champion="main", source="")
    options = options_again(line, promotion, teacher, run)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger

from flows.campaign.find import sections_of
from flows.campaign.run import Run
from flows.engine.execute import resumed_options
from flows.recipes import Recipe, recipe
from flows.retrain import champion as champions
from flows.retrain.hold_out import PromotionOptions, with_hold_out, with_sections
from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.campaigns import Campaign, campaigns, newest_first
from tasks.contract import Output
from tasks.options import Length, Options
from tasks.shard import class_names, pin
from tasks.train import TrainOptions
from tasks.train.options import Start

STAGE, WEIGHTS = "train", "weights.safetensors"
LISTED_CLASSES = 5

logger = getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """The first campaign, and all finished ones of the line, the last one first."""

    root: Store
    first: Campaign
    finished: Sequence[Campaign]

    @property
    def recipe(self) -> Recipe:
        """What it is a line of."""
        return recipe(self.first.recipe)


def find_line(root: Store, campaign: str, champion: str, source: str) -> Line | None:
    """The line of the campaign; without one, that of the champion; without both, the newest one.

    None when there is none that reads the source. Raises ProtegeError for a wrong name.
    """
    known = {found.id: found for found in campaigns(root)}
    repeatable = [found for found in known.values() if recipe(found.recipe).labelled]
    finished = newest_first(repeatable)
    name = campaign or _of_champion(root, champion)
    chosen = [found for found in finished if name in ("", found.id)]
    if name and not chosen:
        raise ProtegeError(
            f"{root.uri} has no finished campaign {name!r} that can be repeated; there are: "
            f"{', '.join(found.id for found in finished) or 'none'}"
        )
    chosen = [found for found in chosen if not source or reads(found, source)]
    if not chosen:
        return None
    first = known.get(chosen[0].line)
    if first is None:
        raise ProtegeError(
            f"{chosen[0].id} repeats {chosen[0].line}, which is no longer in {root.uri}: name "
            "another campaign"
        )
    return Line(root, first, [found for found in finished if found.line == first.id])


def reads(campaign: Campaign, source: str) -> bool:
    """Whether the campaign reads the source, a part of it, or a place above it."""
    uri = open_store(source).uri
    return any(
        f"{uri}/".startswith(f"{own}/") or own.startswith(f"{uri}/") for own in _sources(campaign)
    )


def options_again(line: Line, promotion: PromotionOptions, teacher: str, run: Run) -> Options:
    """The options of the first campaign, with images held out, and perhaps with its teacher."""
    known = line.recipe
    options = with_hold_out(known, _without_approval(resumed_options(line.first)), promotion)
    if teacher == "train" or not known.teacher:
        return options
    labelled = getattr(options, known.labelled).model_dump(mode="json")
    # A teacher that has seen the images held out is not kept, but trained again without them.
    earlier = [found for found in line.finished if found.options[known.labelled] == labelled]
    return _with_teacher(line, options, earlier[0], run) if earlier else options


def _with_teacher(line: Line, options: Options, earlier: Campaign, run: Run) -> Options:
    """The options with the teacher of an earlier campaign, if it still fits the labels."""
    known = line.recipe
    training: TrainOptions = getattr(options, known.teacher)
    model = earlier.outputs[known.teacher]
    start = Start.model_validate(earlier.options[known.teacher]["start"])
    was_kept = start != training.start
    same_labels = (
        pin(line.root, getattr(options, known.labelled)).digest
        == earlier.snapshots[known.labelled].digest
    )
    if training.is_given or (same_labels and not was_kept):
        return options
    if not same_labels and _has_other_classes(known, options, model, run):
        return options
    # Who kept it names it by where the root was then.
    kept_folder = "/".join(start.weights.split("/")[-3:-1])
    folder = kept_folder if was_kept else f"{STAGE}/{model.fingerprint}"
    weights = f"{line.root.uri}/{folder}/{WEIGHTS}"
    kept = training.model_copy(update={"start": Start(weights=weights), "length": Length()})
    return with_sections(options, **{known.teacher: kept})


def _has_other_classes(known: Recipe, options: Options, teacher: Output, run: Run) -> bool:
    """Whether the labels have other classes than the teacher, which then cannot be kept."""
    labelled = run.shard(options=getattr(options, known.labelled), role=known.labelled)
    now, before = set(class_names(labelled)), set(teacher.classes)
    changes = [f"{name} is new" for name in sorted(now - before)[:LISTED_CLASSES]]
    changes += [f"{name} is gone" for name in sorted(before - now)[:LISTED_CLASSES]]
    if changes:
        logger.warning("the teacher is trained again: class %s", ", class ".join(changes))
    return bool(changes)


def _without_approval(options: Options) -> Options:
    """The same recipe, which waits for nobody: nobody is there to approve it at night."""
    sections = sections_of(options)
    sections.pop("approval", None)
    return type(options).model_validate(sections)


def _of_champion(root: Store, name: str) -> str:
    last = champions.pointer(root, name).last()
    return str(last.content["campaign"]) if last else ""


def _sources(campaign: Campaign) -> set[str]:
    sections = [section for section in campaign.options.values() if isinstance(section, Mapping)]
    return {open_store(section["source"]).uri for section in sections if section.get("source")}
