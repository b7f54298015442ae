"""retrain: the recipe of an earlier campaign over what its sources hold now, and a champion.

Pins what is new in the sources, scores only new shards, selects again over all scores, trains the
student and evaluates it; a run that finds nothing new says so and ends in seconds. The student
becomes the champion when it beats the last one on images that were held out from the labelled
ones (`flows/retrain/champion.py`).

    prefect deployment run retrain/by-hand
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from pydantic import Field

from flows.campaign.find import find_campaign, is_complete, sections_of, sources_of
from flows.engine.flow import recipe_flow
from flows.engine.run import readable
from flows.engine.session import open_session
from flows.retrain import champion
from flows.retrain.champion import Comparison, Decision
from flows.retrain.hold_out import PromotionOptions, compare, shard_hold_out
from flows.retrain.line import Line, find_line, options_again
from flows.retrain.news import cancel_waiting, count_new_files
from infra.settings import Settings
from infra.store import Store, open_store
from tasks.campaigns import find
from tasks.options import Options

NAME = "retrain"


@flow(name=NAME, persist_result=False)
@readable
def retrain(
    campaign: str = "",
    source: str = "",
    teacher: Literal["keep", "train"] = "keep",
    promotion: PromotionOptions = PromotionOptions(),
    min_new_files: Annotated[int, Field(ge=1)] = 1,
    root: str = "",
) -> State[Any] | dict[str, Any]:
    """Train again on what is new in the sources, and promote the student if it is better.

    Args:
        campaign: The finished campaign whose options are used; empty takes that of the champion.
        source: Do nothing unless the campaign reads this source; an event fills it in.
        teacher: Keep the teacher, so that only new shards are scored, or train it on new labels.
        promotion: When the new student takes the champion's place.
        min_new_files: Wait while fewer files are new in the sources; a tar is one file.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    cancel_waiting()
    store = open_store(root or Settings().root)
    line = find_line(store, campaign, promotion.champion, source)
    if line is None:
        reader = f" that reads {source}" if source else ""
        return _skipped(f"there is no finished campaign{reader} in {store.uri} to repeat")
    get_run_logger().info(f"repeats {line.first.id}, as {len(line.finished)} campaigns have done")
    known = line.recipe
    with open_session(store.uri) as run:
        options = options_again(line, promotion, teacher, run)
    sources = sources_of(options)
    now = find_campaign(store, known.name, options, sources, repeats=line.first.id)
    if is_complete(now) and champion.decided(store, promotion.champion, now.id):
        return _skipped(f"nothing is new in the sources of {now.id} since it was trained")
    news = count_new_files(store, line.finished[0], now)
    if not now.pinned and 0 < news < min_new_files:
        return _skipped(
            f"{news} files are new in the sources, and min_new_files is {min_new_files}"
        )
    with open_session(store.uri) as run:
        # Before the training, which would be in vain when these images cannot decide.
        shard_hold_out(run, known, options, promotion)
    result = recipe_flow(known, campaign=now)(**sections_of(options), root=store.uri)
    decision = _promote(line, now.id, options, promotion)
    return {**result, "promoted": decision.promoted, "decision": decision.text}


def _skipped(sentence: str) -> State[Any]:
    get_run_logger().info(f"skipped: {sentence}")
    # A name of its own would keep the run off its deployment's page, which lists states by name.
    return Completed(message=f"Skipped: {sentence}")


def _promote(line: Line, name: str, options: Options, promotion: PromotionOptions) -> Decision:
    """Compare with the champion, decide, and say so."""
    store, known = line.root, line.recipe
    made = find(store, name)
    assert made is not None, "its run has just been completed"
    student = made.outputs[known.result]
    last = champion.pointer(store, promotion.champion).last()
    comparison = Comparison()
    if last is not None:
        with open_session(store.uri) as run:
            held_out = shard_hold_out(run, known, options, promotion)
            comparison = compare(run, known, options, held_out, student, last)
    decision = champion.decide(name, last, comparison, promotion.margin, promotion.standard_errors)
    champion.record(store, promotion.champion, decision, last, student)
    _announce(store, promotion.champion, decision)
    return decision


def _announce(store: Store, name: str, decision: Decision) -> None:
    get_run_logger().info(decision.text)
    event = "protege.champion.promoted" if decision.promoted else "protege.champion.kept"
    emit_event(
        event,
        resource={"prefect.resource.id": f"protege.champion.{name}"},
        payload={"root": store.uri, **asdict(decision)},
    )
