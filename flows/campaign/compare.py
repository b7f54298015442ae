"""Compare: finished campaigns side by side: what differs, what came out, where they disagree.

In: a root and some of its campaigns, of whatever recipes. Out: a `Comparison`: the options that are
not alike, figures with their errors and their spread over seeds, and the test images that some
results know and others do not, where all were measured on the same images.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.campaign.summary import accuracy_text, measures_of, story_of, top1_rows
from flows.recipes import recipe
from infra.errors import ProtegeError
from infra.store import Store
from tasks.campaigns import Campaign
from tasks.compare_page import Answer, Disagreement, Row
from tasks.contract import Output, canonical, output_at
from tasks.evaluate import TEST, predictions_in, read_predictions
from tasks.options import flat_options
from tasks.report.format import NOT_MEASURED, duration, number, percent, points

NO_OPTION = "\u2013"


@dataclass(frozen=True)
class Comparison:
    """Campaigns side by side, in the order in which they were named.

    `images` are the test images, and None where they are not the same for all.
    """

    campaigns: tuple[Campaign, ...]
    options: tuple[Row, ...]
    figures: tuple[Row, ...]
    images: Output | None
    disagreements: tuple[Disagreement, ...]


def compare(root: Store, campaigns: Sequence[Campaign]) -> Comparison:
    """Put campaigns side by side. Raises ProtegeError for one that is not finished."""
    for campaign in campaigns:
        if not campaign.finished:
            raise ProtegeError(
                f"{campaign.id} is not finished: `protege resume {campaign.id}` goes on with it"
            )
    predicted = [_predictions(campaign) for campaign in campaigns]
    images = same_images(root, predicted)
    return Comparison(
        campaigns=tuple(campaigns),
        options=tuple(_options(campaigns)),
        figures=tuple(_figures(root, campaigns)),
        images=images,
        disagreements=tuple(_disagreements(predicted)) if images is not None else (),
    )


def _options(campaigns: Sequence[Campaign]) -> Iterator[Row]:
    """The options that are not the same in all of them."""
    flat = [
        {name: _text(value) for name, value in flat_options(campaign.options)}
        for campaign in campaigns
    ]
    names = dict.fromkeys(name for options in flat for name in options)
    if len({campaign.recipe for campaign in campaigns}) > 1:
        yield Row("recipe", tuple(campaign.recipe for campaign in campaigns))
    for name in names:
        texts = tuple(options.get(name, NO_OPTION) for options in flat)
        if len(set(texts)) > 1:
            yield Row(name, texts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _figures(root: Store, campaigns: Sequence[Campaign]) -> Iterator[Row]:
    """Accuracies with their standard errors over images, and over seeds where there are several."""
    summaries = [campaign.summary for campaign in campaigns]
    accuracies = [
        {title: accuracy_text(top1, summary) for title, top1 in top1_rows(summary)}
        for summary in summaries
    ]
    yield Row("Result", tuple(map(_result, campaigns)))
    for title in dict.fromkeys(title for rows in accuracies for title in rows):
        yield Row(title, tuple(rows.get(title, NOT_MEASURED) for rows in accuracies))
    yield Row("Gain, in points", tuple(map(_gain, summaries)))
    spreads = [story_of(root, campaign).spread for campaign in campaigns]
    if any(len(spread) > 1 for spread in spreads):
        pairs = zip(campaigns, spreads, strict=True)
        yield Row("Result over seeds", tuple(_over_seeds(*pair) for pair in pairs))
    precisions = (summary.get("chosen_precision") for summary in summaries)
    yield Row("Precision of the chosen", tuple(map(percent, precisions)))
    yield Row("Time", tuple(duration(summary["seconds"]["total"]) for summary in summaries))


def _result(campaign: Campaign) -> str:
    """The accuracy of the model that it was run for, by which recipes can be compared."""
    top1 = campaign.summary.get(f"{recipe(campaign.recipe).result}_top1")
    return NOT_MEASURED if top1 is None else accuracy_text(top1, campaign.summary)


def _gain(summary: Mapping[str, Any]) -> str:
    gain, error = summary.get("gain"), summary.get("gain_standard_error")
    if gain is None or error is None:
        return NOT_MEASURED
    return f"{points(gain)} \u00b1 {number(100 * error, 1)}"


def _over_seeds(campaign: Campaign, spread: Sequence[Mapping[str, float]]) -> str:
    """The mean of the result over seeds, with its standard error."""
    values = np.array([run[f"{recipe(campaign.recipe).result}_top1"] for run in spread])
    if len(values) < 2:
        return NOT_MEASURED
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return f"{percent(float(values.mean()))} \u00b1 {number(100 * error, 1)} ({len(values)} seeds)"


def _predictions(campaign: Campaign) -> Output | None:
    """The answers of the result on the test images."""
    measured, result = measures_of(campaign), recipe(campaign.recipe).result
    if measured is None or result not in measured.body["extra"]["models"]:
        return None
    if TEST not in measured.body["extra"]["datasets"]:
        return None
    return predictions_in(measured, result)


def same_images(root: Store, predicted: Sequence[Output | None]) -> Output | None:
    """The images that all were asked about; None where they differ."""
    links = [answers.body["inputs"]["images"] for answers in predicted if answers is not None]
    if len(links) < len(predicted) or len({link["digest"] for link in links}) > 1:
        return None
    return output_at(f"{root.uri}/{links[0]['manifest']}", "shard")


def _disagreements(predicted: Sequence[Output | None]) -> Iterator[Disagreement]:
    """The images that not all know or all miss, those first of which the wrong are surest."""
    columns = ["image_id", "label", "predicted", "confidence"]
    outputs = [answers for answers in predicted if answers is not None]
    tables = [read_predictions(answers, columns).sort_by("image_id") for answers in outputs]
    names = [answers.classes for answers in outputs]
    common = set.intersection(*(set(table["image_id"].to_pylist()) for table in tables))
    rows = [[row for row in table.to_pylist() if row["image_id"] in common] for table in tables]
    found = []
    for of_image in zip(*rows, strict=True):
        answers = tuple(
            Answer(known[row["predicted"]], row["confidence"], row["predicted"] == row["label"])
            for row, known in zip(of_image, names, strict=True)
        )
        if len({answer.is_right for answer in answers}) > 1:
            label = names[0][of_image[0]["label"]]
            found.append(Disagreement(of_image[0]["image_id"], label, answers))
    yield from sorted(found, key=lambda one: (-_surest_error(one), one.image_id))


def _surest_error(disagreement: Disagreement) -> float:
    return max(answer.probability for answer in disagreement.answers if not answer.is_right)
