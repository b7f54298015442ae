"""retrain: the recipe of an earlier campaign over what its sources hold now, and a champion.

Pins what is new in the sources, scores only new shards, selects again over all scores, trains the
student and evaluates it; a run that finds nothing new says so and ends in seconds. The student
becomes the champion when it beats the last one on images that were held out from the labelled
ones (`flows/retrain/champion.py`).

    prefect deployment run retrain/scheduled
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from pydantic import Field

from flows.campaign.find import campaign_key, find_campaign, is_complete, sections_of, sources_of
from flows.campaign.run import Run
from flows.engine.execute import resumed_options
from flows.engine.flow import recipe_flow
from flows.engine.run import readable
from flows.engine.session import open_session
from flows.recipes import Recipe, recipe
from flows.retrain import champion
from flows.retrain.champion import Comparison
from infra.errors import ProtegeError
from infra.pointers import PointerEntry
from infra.settings import Settings
from infra.store import Store, open_store
from tasks.campaigns import Campaign, campaigns, find, newest_first, output_from
from tasks.contract import Output
from tasks.evaluate import EvaluateOptions, figure, read_metrics
from tasks.options import Length, Options
from tasks.shard import ShardOptions, pin
from tasks.train import TrainOptions

NAME = "retrain"
EVERYTHING = 100.0


class PromotionOptions(Options):
    """When a new student takes the champion's place."""

    champion: str = "main"
    """Name of the champion; several problems may share a root."""
    hold_out_percent: float = Field(10, ge=1, le=50)
    """Share of the labelled images that decides, unless the campaign itself holds some out."""
    margin: float = Field(0, ge=0, le=1)
    """The gain in accuracy, as a share of 1, that it takes to be promoted."""
    standard_errors: float = Field(1, ge=0, le=10)
    """The gain must exceed the margin by so many of its standard errors."""


@flow(name=NAME, persist_result=False)
@readable
def retrain(
    campaign: str = "",
    source: str = "",
    teacher: Literal["keep", "train"] = "keep",
    promotion: PromotionOptions = PromotionOptions(),
    root: str = "",
) -> State[Any] | dict[str, Any]:
    """Train again on what is new in the sources, and promote the student if it is better.

    Args:
        campaign: The finished campaign whose options are used; empty takes the newest one.
        source: Do nothing unless the campaign reads this source; an event fills it in.
        teacher: Keep the teacher, so that only new shards are scored, or train it on new labels.
        promotion: When the new student takes the champion's place.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    store = open_store(root or Settings().root)
    # A wrong name ends the run here, and not after the training.
    champion.pointer(store, promotion.champion)
    before = _example(store, campaign, source)
    if before is None:
        reader = f" that reads {source}" if source else ""
        return _skipped(f"there is no finished campaign{reader} in {store.uri} to repeat")
    known = recipe(before.recipe)
    options = options_again(store, known, before, teacher, promotion)
    now = find_campaign(store, known.name, options, sources_of(options))
    if is_complete(now) and champion.decided(store, promotion.champion, now.id):
        return _skipped(f"nothing is new in the sources of {now.id} since it was trained")
    result = recipe_flow(known, campaign=now)(**sections_of(options), root=store.uri)
    decision = _promote(store, known, now.id, options, promotion)
    return {**result, "promoted": decision.promoted, "decision": decision.text}


def _skipped(sentence: str) -> State[Any]:
    get_run_logger().info(f"skipped: {sentence}")
    # A name of its own would keep the run off its deployment's page, which lists states by name.
    return Completed(message=f"Skipped: {sentence}")


def _example(store: Store, name: str, source: str) -> Campaign | None:
    """The campaign whose options are used again. Raises ProtegeError for a wrong name."""
    finished = [
        campaign
        for campaign in newest_first(campaigns(store))
        if recipe(campaign.recipe).labelled and name in ("", campaign.id)
    ]
    if name and not finished:
        raise ProtegeError(f"{store.uri} has no finished campaign {name!r} that can be repeated")
    if source:
        uri = open_store(source).uri
        finished = [campaign for campaign in finished if uri in _sources(campaign)]
    return finished[0] if finished else None


def _sources(campaign: Campaign) -> set[str]:
    sections = [section for section in campaign.options.values() if isinstance(section, Mapping)]
    return {open_store(section["source"]).uri for section in sections if section.get("source")}


def options_again(
    store: Store, known: Recipe, before: Campaign, teacher: str, promotion: PromotionOptions
) -> Options:
    """The options of the earlier campaign, with images held out, and perhaps with its teacher."""
    options = _with_hold_out(known, _without_approval(resumed_options(before)), promotion)
    key = campaign_key(options)
    # A teacher that has seen the images held out is not kept, but trained again without them.
    earlier = newest_first(campaigns(store, f"{known.name}-{key}"))
    if teacher == "train" or not known.teacher or not earlier:
        return options
    training: TrainOptions = getattr(options, known.teacher)
    labels = pin(store, getattr(options, known.labelled)).digest
    if not training.length.amount or labels == earlier[0].snapshots[known.labelled].digest:
        return options
    weights = f"{earlier[0].outputs[known.teacher].uri}/weights.safetensors"
    kept = training.model_copy(update={"checkpoint": weights, "length": Length()})
    return _with(options, **{known.teacher: kept})


def _with_hold_out(known: Recipe, options: Options, promotion: PromotionOptions) -> Options:
    """The options without the labelled images that decide; a campaign may have its own."""
    labelled: ShardOptions = getattr(options, known.labelled)
    if labelled.to_percent < EVERYTHING:
        return options
    up_to = EVERYTHING - promotion.hold_out_percent
    return _with(options, **{known.labelled: labelled.model_copy(update={"to_percent": up_to})})


def _with(options: Options, **sections: Options) -> Options:
    """The same recipe with other sections, which are checked against each other anew."""
    return type(options).model_validate({**sections_of(options), **sections})


def _without_approval(options: Options) -> Options:
    """The same recipe, which waits for nobody: nobody is there to approve it at night."""
    sections = sections_of(options)
    sections.pop("approval", None)
    return type(options).model_validate(sections)


def _held_out(known: Recipe, options: Options) -> ShardOptions:
    """The labelled images that nothing was trained on."""
    labelled: ShardOptions = getattr(options, known.labelled)
    places = {"from_percent": labelled.to_percent, "to_percent": EVERYTHING}
    return ShardOptions.model_validate({**dict(labelled), **places})


def _promote(
    store: Store, known: Recipe, name: str, options: Options, promotion: PromotionOptions
) -> champion.Decision:
    """Compare with the champion, decide, and say so."""
    made = find(store, name)
    assert made is not None, "its run has just been completed"
    student = made.outputs[known.result]
    with open_session(store.uri) as run:
        held_out = run.shard(options=_held_out(known, options), role="promotion")
        last = champion.pointer(store, promotion.champion).last()
        comparison = Comparison()
        if last is not None:
            comparison = _compare(run, held_out, student, last)
    decision = champion.decide(name, last, comparison, promotion.margin, promotion.standard_errors)
    champion.record(store, promotion.champion, decision, last, student, held_out)
    _announce(store, promotion.champion, decision)
    return decision


def _compare(run: Run, held_out: Output, student: Output, last: PointerEntry) -> Comparison:
    """The student beside the champion, image by image."""
    holder = output_from(run.store, last.content["student"])
    if holder.classes != student.classes:
        return Comparison(why_not="it knows other classes")
    if last.content["promotion"].get("fingerprint") != held_out.fingerprint:
        return Comparison(why_not="other images were held out from its training")
    models = {"student": student, "baseline": holder}
    options = EvaluateOptions(views=0)
    compare = ("student", "baseline")
    measured = run.evaluate(held_out, models, options, compare=compare, role="promotion metrics")
    metrics = read_metrics(measured)
    gain = figure(metrics, "student", "gain")
    return Comparison(held_out.kept, gain, figure(metrics, "student", "gain_standard_error"))


def _announce(store: Store, name: str, decision: champion.Decision) -> None:
    get_run_logger().info(decision.text)
    event = "protege.champion.promoted" if decision.promoted else "protege.champion.kept"
    emit_event(
        event,
        resource={"prefect.resource.id": f"protege.champion.{name}"},
        payload={"root": store.uri, **asdict(decision)},
    )
