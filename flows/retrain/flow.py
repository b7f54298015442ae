"""retrain: the recipe of an earlier campaign over what its sources hold now, and a champion.

Pins what is new in the sources, scores only new shards, selects again over all scores, trains the
student and evaluates it; a run that finds nothing new says so and ends in seconds. The student
becomes the champion when it beats the last one on images that were held out from the labelled
ones (`flows/champion.py`).

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

from flows.campaign.options import ApprovalOptions
from flows.campaign.run import Run, campaign_key, find_campaign, machines
from flows.engine import stages
from flows.engine.execute import resumed_options, sections_of, sources_of, unchanged
from flows.recipes import recipe
from flows.retrain import champion
from flows.retrain.champion import Comparison
from infra.errors import ProtegeError
from infra.pointers import PointerEntry
from infra.settings import Settings
from infra.store import Store, open_store
from tasks.campaigns import Campaign, campaigns, find, newest_first
from tasks.contract import Output
from tasks.evaluate import EvaluateOptions, figure, read_metrics
from tasks.options import Length, Options
from tasks.shard import ShardOptions, pin

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
@stages.readable
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
    before = _example(store, campaign, source)
    if before is None:
        reader = f" that reads {source}" if source else ""
        return _skipped(f"there is no finished campaign{reader} in {store.uri} to repeat")
    options = _again(store, before, teacher, promotion)
    now = find_campaign(store, before.recipe, options, sources_of(options))
    if unchanged(store, now) and champion.decided(store, promotion.champion, now.id):
        return _skipped(f"nothing is new in the sources of {now.id} since it was trained")
    result = recipe(before.recipe).load_flow()(**sections_of(options), root=store.uri)
    decision = _promote(store, result["campaign"], options, promotion)
    return {**result, "promoted": decision.promoted, "decision": decision.text}


def _skipped(sentence: str) -> State[Any]:
    get_run_logger().info(f"skipped: {sentence}")
    # A name of its own would keep the run off its deployment's page, which lists states by name.
    return Completed(message=f"Skipped: {sentence}")


def _example(store: Store, name: str, source: str) -> Campaign | None:
    """The campaign whose options are used again. Raises ProtegeError for a wrong name."""
    finished = newest_first(campaigns(store))
    if name:
        finished = [one for one in finished if one.id == name]
        if not finished:
            raise ProtegeError(f"{store.uri} has no finished campaign {name!r}")
    if source:
        place = open_store(source).uri
        finished = [one for one in finished if place in _places(one)]
    return finished[0] if finished else None


def _places(campaign: Campaign) -> set[str]:
    sections = campaign.options.values()
    sources = [one["source"] for one in sections if isinstance(one, Mapping) and "source" in one]
    return {open_store(source).uri for source in sources if source}


def _again(store: Store, before: Campaign, teacher: str, promotion: PromotionOptions) -> Any:
    """The options of the earlier campaign, with images held out, and perhaps with its teacher."""
    options = _with_hold_out(resumed_options(before.options, before.recipe), promotion)
    key = campaign_key(options)
    # A teacher that has seen the images held out is not kept, but trained again without them.
    earlier = newest_first(campaigns(store, f"{before.recipe}-{key}"))
    if teacher == "train" or not earlier or not options.teacher.length.amount:
        return options
    labels = pin(store, options.labelled).digest
    if labels == earlier[0].snapshots["labelled"]["digest"]:
        return options
    kept = Output(**earlier[0].outputs["teacher"])
    given = {"checkpoint": f"{kept.uri}/weights.safetensors", "length": Length()}
    return _with(options, teacher=options.teacher.model_copy(update=given))


def _with_hold_out(options: Any, promotion: PromotionOptions) -> Any:
    """The options without the labelled images that decide; a campaign may have its own."""
    if options.labelled.to_percent < EVERYTHING:
        return options
    up_to = EVERYTHING - promotion.hold_out_percent
    return _with(options, labelled=options.labelled.model_copy(update={"to_percent": up_to}))


def _with(options: Any, **sections: Options) -> Any:
    """The same recipe with other sections; nobody is asked in the middle of the night."""
    given = {**sections_of(options), **sections, "approval": ApprovalOptions()}
    return type(options).model_validate(given)


def _held_out(options: Any) -> ShardOptions:
    """The labelled images that nothing was trained on."""
    labelled: ShardOptions = options.labelled
    places = {"from_percent": labelled.to_percent, "to_percent": EVERYTHING}
    return ShardOptions.model_validate({**dict(labelled), **places})


def _promote(
    store: Store, name: str, options: Any, promotion: PromotionOptions
) -> champion.Decision:
    """Compare with the champion, decide, and say so."""
    made = find(store, name)
    assert made is not None, "its run has just been completed"
    student = Output(**made.outputs["student"])
    with machines(store.uri) as run:
        held_out = stages.shard(run, "promotion", _held_out(options))
        last = champion.pointer(store, promotion.champion).last()
        found = Comparison()
        if last is not None:
            found = _compare(run, held_out, student, last)
    decision = champion.decide(name, last, found, promotion.margin, promotion.standard_errors)
    champion.record(store, promotion.champion, decision, last, student, asdict(held_out))
    _tell(store, promotion.champion, decision)
    return decision


def _compare(run: Run, held_out: Output, student: Output, last: PointerEntry) -> Comparison:
    """The student beside the champion, image by image."""
    holder = Output(**last.content["student"])
    if holder.body["extra"]["classes"] != student.body["extra"]["classes"]:
        return Comparison(why_not="it knows other classes")
    if last.content["promotion"].get("fingerprint") != held_out.fingerprint:
        return Comparison(why_not="other images were held out from its training")
    models = {"student": student, "baseline": holder}
    options = EvaluateOptions(views=0)
    compare = ("student", "baseline")
    measured = stages.evaluate(run, "promotion metrics", options, held_out, models, compare, None)
    metrics = read_metrics(measured)
    gain = figure(metrics, "student", "gain")
    return Comparison(held_out.kept, gain, figure(metrics, "student", "gain_standard_error"))


def _tell(store: Store, name: str, decision: champion.Decision) -> None:
    get_run_logger().info(decision.text)
    event = "protege.champion.promoted" if decision.promoted else "protege.champion.kept"
    emit_event(
        event,
        resource={"prefect.resource.id": f"protege.champion.{name}"},
        payload={"root": store.uri, **asdict(decision)},
    )
