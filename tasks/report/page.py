"""Page: puts figures, pictures and plots into the template.

In: the options and the story. Out: the text of the page. Everything goes through jinja2 with
autoescape, so a class called `<script>` is shown as that.

    html = render(root, ReportOptions(), story)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from infra.store import Store
from tasks.contract import OnProgress
from tasks.evaluate.suspect_classes import Suspect, counts_above, median_class, suspects
from tasks.report import facts, pictures, plots
from tasks.report import format as words
from tasks.report.facts import ReportData
from tasks.topk import count_dropped

if TYPE_CHECKING:
    from tasks.report import ReportOptions, Story

TEMPLATE = "page.html.j2"
MATRIX_CLASSES = 20  # a larger matrix cannot be read; its largest errors are listed instead
LISTED_ERRORS = 20
STEPS = 5  # of progress
GAIN = "Gain, in points"


@dataclass(frozen=True)
class ClassCard:
    """What the page tells of one class."""

    label: int
    name: str
    kept: int
    candidates: int
    kth_log_odds: float | None
    certified: bool
    agreement: float | None
    precision: float | None
    top1: float | None
    suspect: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Confusion:
    """The answers of the result: the matrix where it can be read, and its largest errors."""

    counts_CC: npt.NDArray[np.int64] | None
    errors: tuple[tuple[str, str, int], ...]


def render(root: Store, options: "ReportOptions", story: "Story", on_progress: OnProgress) -> str:
    """The page."""
    on_progress(0, STEPS, "reading tables")
    data = facts.load(story)
    flagged = suspects(data.classes, data.metrics, data.k)
    cards = _cards(data, flagged)
    shown = _in_need(cards, data.k, options.max_classes)
    on_progress(1, STEPS, "pictures")
    names = {card.label: card.name for card in shown}
    strips = pictures.strips(data.scored_images, data.chosen, names, options.images_per_strip)
    on_progress(2, STEPS, "plots")
    drawn = _plots(data, shown)
    on_progress(3, STEPS, "lineage")
    context = {
        "title": options.title or story.recipe.replace("_", " ").capitalize(),
        "story": story,
        "data": data,
        "head": facts.headline(data),
        "chosen_words": words.choice(data.topk, data.chosen_output.kept),
        "models": facts.models(data),
        "cards": cards,
        "shown": shown,
        "strips": strips,
        "plots": drawn,
        "seeds": _seeds(story),
        "confusion": _confusion(data, [card.name for card in cards]),
        "times": facts.times(data),
        "machines": facts.machines(data),
        "rejects": facts.rejects(data),
        "copies": facts.copies(data),
        "lineage": facts.lineage(root, data),
        "versions": facts.versions(data),
        "precision": facts.value(data.measures, "chosen", "precision"),
        "agreement": facts.value(data.measures, "chosen", "view_agreement"),
    }
    on_progress(4, STEPS, "writing")
    page = _environment().get_template(TEMPLATE).render(context)
    on_progress(STEPS, STEPS, "")
    return page


def _environment() -> jinja2.Environment:
    here = files("tasks.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: here.joinpath(name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for use in (words.percent, words.points, words.number, words.probability, words.duration):
        environment.filters[use.__name__] = use
    environment.filters["flat"] = facts.flat_options
    return environment


# -------------------------------------------------------------------------------------- classes


def _cards(data: ReportData, flagged: Sequence[Suspect]) -> list[ClassCard]:
    """A card for each class, in the order of the labels."""
    measures = data.measures
    reasons = {suspect.label: suspect.reason for suspect in flagged}
    found = []
    for row in data.classes.to_pylist():
        label = row["label"]
        found.append(
            ClassCard(
                label=label,
                name=row["name"],
                kept=row["kept"],
                candidates=row["candidates"],
                kth_log_odds=row["kth_log_odds"],
                certified=row["certified"],
                agreement=facts.value(measures, "chosen", "view_agreement", label),
                precision=facts.value(measures, "chosen", "precision", label),
                top1=facts.value(measures, data.story.result, "top1", label),
                suspect=reasons.get(label, ""),
                warnings=tuple(_warnings(data, row)),
            )
        )
    return found


def _warnings(data: ReportData, row: Mapping[str, Any]) -> list[str]:
    topk = data.topk
    found = []
    if row["kept"] < data.k and not topk.across_classes:
        copies = sum(count_dropped(row).values())
        found.append(
            f"short: {row['kept']:,} of {data.k:,} places are filled, because only "
            f"{row['candidates']:,} images {words.candidacy(topk)}"
            + (f", and {copies:,} of them are copies" if copies else "")
        )
    if not row["certified"]:
        found.append(
            "not certified: an image whose best classes were cut off before this one might have "
            "ranked; raise score.top_p and topk.top_p to be sure"
        )
    if topk.mode == "per_class" and row["kept"] and row["kth_log_odds"] < 0:
        chance = words.probability(row["kth_log_odds"])
        found.append(
            f"its last image has p {chance}: K may be more than the pile holds of this class"
        )
    return found


def _in_need(cards: Sequence[ClassCard], k: int, most: int) -> list[ClassCard]:
    """The classes to show with pictures; of too many, those most in need of a look come first."""
    if len(cards) <= most:
        return list(cards)

    def need(card: ClassCard) -> tuple[bool, float, bool, float, int]:
        agreement = 1.0 if card.agreement is None else card.agreement
        return (not card.suspect, card.kept / k, card.certified, agreement, card.label)

    return sorted(cards, key=need)[:most]


# ---------------------------------------------------------------------------------------- plots


def _plots(data: ReportData, shown: Sequence[ClassCard]) -> dict[str, Any]:
    by_score = not data.topk.random
    k = data.k
    some = plots.curves(data.classes, data.chosen, k, by_score=by_score)
    wanted = {card.label for card in shown}
    some = [curve for curve in some if curve.label in wanted]
    suspected = {card.label for card in shown if card.suspect}
    typical_B = median_class(counts_above(data.classes))
    names = {card.label: card.name for card in shown}
    each = {
        curve.label: plots.class_curve(
            typical_B, curve, k, names[curve.label], flagged=curve.label in suspected
        )
        for curve in some
    }
    training = [
        (data.story.training_title(role), plots.training_curve(role, history))
        for role, history in facts.histories(data)
    ]
    return {
        "scores": plots.score_curves(some, k, suspected),
        "classes": each,
        "training": training,
        "seeds": _seed_dots(data.story),
    }


def _seed_dots(story: "Story") -> Markup | None:
    spread = story.spread
    if len(spread) < 2:
        return None
    rows = [
        (
            100 * run[f"{story.compared_with}_top1"],
            100 * run[f"{story.result}_top1"],
            100 * run["random_top1"] if "random_top1" in run else None,
        )
        for run in spread
    ]
    return plots.seed_dots(rows, [f"seed {run['seed']:g}" for run in spread])


def _seeds(story: "Story") -> list[tuple[str, float, float, float, float]]:
    """(title, mean, standard deviation, lowest, highest) of each figure over the runs."""
    spread = story.spread
    if len(spread) < 2:
        return []
    columns = {name: [run[name] for run in spread if name in run] for name in spread[0]}
    result, compared = f"{story.result}_top1", f"{story.compared_with}_top1"
    columns["gain"] = [run[result] - run[compared] for run in spread]
    titles = {
        compared: f"{story.compared_with.capitalize()}, top-1",
        "random_top1": "Random choice, top-1",
        result: f"{story.result.capitalize()}, top-1",
        "gain": GAIN,
        "chosen_precision": "Right among the chosen",
    }
    return [
        (title, float(np.mean(values)), float(np.std(values, ddof=1)), min(values), max(values))
        for name, title in titles.items()
        if len(values := columns.get(name, [])) > 1
    ]


def _confusion(data: ReportData, names: Sequence[str]) -> Confusion:
    counts_CC = facts.confusion(data, len(names))
    wrong_CC = counts_CC - np.diag(np.diag(counts_CC))
    order = np.argsort(-wrong_CC, axis=None, kind="stable")[:LISTED_ERRORS]
    errors = []
    for place in order.tolist():
        true, predicted = divmod(place, len(names))
        if wrong_CC[true, predicted]:
            errors.append((names[true], names[predicted], int(wrong_CC[true, predicted])))
    readable = len(names) <= MATRIX_CLASSES
    return Confusion(counts_CC if readable else None, tuple(errors))
