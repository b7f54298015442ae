"""Hold-out: the labelled images that nothing is trained on, and the comparison on them.

In: the options of a campaign. Out: the same with images held out; the images held out, as an
output; a student beside the champion on them. The test set decides nothing.

    options = with_hold_out(known, options, promotion)
    held_out = shard_hold_out(run, known, options, promotion)
    comparison = compare(run, known, options, student, champion)
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from flows.campaign.find import sections_of
from flows.campaign.run import Run
from flows.recipes import Recipe
from flows.retrain.champion import Comparison, student_of
from infra.errors import ProtegeError
from infra.pointers import PointerEntry
from infra.store import open_store
from tasks import tables
from tasks.campaigns import find
from tasks.contract import Output, find_output, read_rows
from tasks.evaluate import EvaluateOptions, figure, read_metrics
from tasks.options import Options
from tasks.shard import ShardOptions, class_names

EVERYTHING = 100.0
LISTED_CLASSES = 5


class PromotionOptions(Options):
    """When a new student takes the champion's place."""

    champion: str = "main"
    """Name of the champion; several problems may share a root."""
    hold_out_percent: float = Field(10, ge=1, le=50)
    """Share of the labelled images that decides, unless the campaign itself holds some out."""
    min_images: int = Field(5, ge=1, le=1_000_000)
    """Images that must be held out: of fewer than five, two could decide."""
    margin: float = Field(0, ge=0, le=1)
    """The gain in accuracy, as a share of 1, that it takes to be promoted."""
    standard_errors: float = Field(2, ge=0, le=10)
    """The gain must exceed the margin by so many of its standard errors."""


def with_sections(options: Options, **sections: Options) -> Options:
    """The same recipe with other sections, which are checked against each other anew."""
    return type(options).model_validate({**sections_of(options), **sections})


def with_hold_out(known: Recipe, options: Options, promotion: PromotionOptions) -> Options:
    """The options without the labelled images that decide; a campaign may have its own."""
    labelled: ShardOptions = getattr(options, known.labelled)
    if labelled.to_percent < EVERYTHING:
        return options
    up_to = EVERYTHING - promotion.hold_out_percent
    kept = labelled.model_copy(update={"to_percent": up_to})
    return with_sections(options, **{known.labelled: kept})


def held_out_of(known: Recipe, options: Options) -> ShardOptions:
    """The labelled images that nothing was trained on."""
    labelled: ShardOptions = getattr(options, known.labelled)
    places = {"from_percent": labelled.to_percent, "to_percent": EVERYTHING}
    return ShardOptions.model_validate({**dict(labelled), **places})


def shard_hold_out(
    run: Run, known: Recipe, options: Options, promotion: PromotionOptions
) -> Output:
    """The images held out, which can decide. Raises ProtegeError when they cannot."""
    held_out = run.shard(options=held_out_of(known, options), role="promotion")
    if held_out.kept < promotion.min_images:
        raise ProtegeError(
            f"{held_out.kept} labelled images are held out, and promotion.min_images is "
            f"{promotion.min_images}: label more images, raise promotion.hold_out_percent (or "
            "lower labelled.to_percent of the campaign), or lower promotion.min_images"
        )
    labelled = run.shard(options=getattr(options, known.labelled), role=known.labelled)
    labels = read_rows(held_out, tables.IMAGES, ["label"])["label"].to_pylist()
    unknown = sorted(set(labels) - set(class_names(labelled)))
    if unknown:
        raise ProtegeError(
            f"all images of these classes are held out, so that nothing learns them: "
            f"{', '.join(unknown[:LISTED_CLASSES])}. Label more images of each"
        )
    return held_out


def compare(
    run: Run, known: Recipe, options: Options, held_out: Output, student: Output, last: PointerEntry
) -> Comparison:
    """The student beside the champion, image by image."""
    holder = student_of(run.store, last)
    why_not = next(_obstacles(run, known, options, student, holder, last), "")
    if why_not:
        return Comparison(why_not=why_not)
    models = {"student": student, "baseline": holder}
    compared = ("student", "baseline")
    measured = run.evaluate(
        held_out, models, EvaluateOptions(views=0), compare=compared, role="promotion metrics"
    )
    metrics = read_metrics(measured)
    gain = figure(metrics, "student", "gain")
    return Comparison(held_out.kept, gain, figure(metrics, "student", "gain_standard_error"))


def _obstacles(
    run: Run, known: Recipe, options: Options, student: Output, holder: Output, last: PointerEntry
) -> Iterator[str]:
    """Why the champion cannot be compared, the first reason first."""
    if find_output(holder.store, holder.manifest) is None:
        yield f"the champion's model is no longer at {holder.uri}"
    elif holder.classes != student.classes:
        yield "it knows other classes"
    campaign = find(run.store, last.content["campaign"])
    if campaign is None or known.labelled not in campaign.options:
        yield "its campaign, which says what it has learned from, is no longer in this root"
    else:
        yield from _seen(campaign.options[known.labelled], held_out_of(known, options))


def _seen(learned: Any, held_out: ShardOptions) -> Iterator[str]:
    """Why images held out may be among those that a campaign has learned from."""
    images = ShardOptions.model_validate(learned)
    if open_store(images.source).uri != open_store(held_out.source).uri:
        yield f"it has learned from other labelled images, of {images.source}"
    if images.from_percent < held_out.to_percent and held_out.from_percent < images.to_percent:
        yield (
            f"it has learned from images in {images.slice}, and those in {held_out.slice} are "
            "held out now"
        )
