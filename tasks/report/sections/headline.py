"""Headline: what was done, in a few sentences, and the result in a few figures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import Output
from tasks.report.choice import Choice
from tasks.report.format import number, percent, points, thousands
from tasks.report.sections import ReportData, Section
from tasks.report.verdict import verdict


@dataclass(frozen=True)
class Tile:
    """A figure in large type; `bad` shows it in the colour of warnings."""

    label: str
    value: str
    note: str
    main: bool = False
    bad: bool = False


def applies(data: ReportData) -> bool:
    """Something was chosen, or the result was measured."""
    return data.choice is not None or data.is_measured(data.story.result)


def facts(data: ReportData) -> Mapping[str, Any]:
    """Sentences and tiles."""
    sentences = [*verdict(data), *_sentences(data)]
    return {"sentences": sentences, "tiles": list(_tiles(data))}


def _sentences(data: ReportData) -> Iterator[str]:
    choice, story = data.choice, data.story
    if choice is not None:
        yield from _choice_sentences(data, choice)
    result_top1 = data.top1(story.result)
    if result_top1 is None:
        return
    figure = data.measures.figure(story.result, "top1", data.datasets[0])
    tested = _amount(figure.count if figure else 0, story.role(data.datasets[0]).noun)
    sentence = f"The {story.role(story.result).noun} is right on {percent(result_top1)} of {tested}"
    compared_top1 = data.top1(story.compared_with)
    if compared_top1 is not None:
        compared = story.role(story.compared_with).noun
        sentence += f"; the {compared} on {percent(compared_top1)}"
    yield f"{sentence}."


def _choice_sentences(data: ReportData, choice: Choice) -> Iterator[str]:
    """What the teachers learned from and scored, and what was chosen."""
    learned = [_learned(data, teacher) for teacher in choice.teachers]
    scored = _amount(sum(scores.kept for scores in choice.scores), _noun(data, choice.images))
    if len(learned) == 1:
        yield f"{learned[0]} and scored {scored}."
    else:
        yield f"{'. '.join(learned)}. They scored {scored}."
    chosen = choice.chosen_phrase
    share = "on average" if choice.across_classes else "at most"
    yield (
        f"{chosen[:1].upper()}{chosen[1:]}, {share} {thousands(choice.k)} for each of "
        f"{thousands(len(choice.classes))} classes, were chosen for training."
    )


def _learned(data: ReportData, teacher: Output) -> str:
    training_sets = [*data.inputs_of(teacher, "shard"), *data.inputs_of(teacher, "gather")]
    amounts = " and ".join(_amount(images.kept, _noun(data, images)) for images in training_sets)
    return f"The {_noun(data, teacher)} learned from {amounts}"


def _noun(data: ReportData, output: Output) -> str:
    return data.story.role(data.role_of(output)).noun


def _amount(count: int, noun: str) -> str:
    return f"{thousands(count)} images of the {noun}"


def _tiles(data: ReportData) -> Iterator[Tile]:
    story = data.story
    result_top1 = data.top1(story.result)
    if result_top1 is not None:
        noun = story.role(story.result).noun
        yield Tile(f"{noun.capitalize()}, top-1", percent(result_top1), _compared(data), main=True)
        if story.compared_with:
            yield from _comparison(data, result_top1)
    if data.choice is not None:
        precision = data.measures.of_choice("precision")
        note = "no audit list has a chosen image" if precision is None else "against the audit list"
        yield Tile("Precision of the chosen", percent(precision), note)


def _compared(data: ReportData) -> str:
    story = data.story
    if not story.compared_with:
        return ""
    noun, top1 = story.role(story.compared_with).noun, data.top1(story.compared_with)
    return f"{noun} {percent(top1)}" if top1 is not None else f"the {noun} was not measured"


def _comparison(data: ReportData, result_top1: float) -> Iterator[Tile]:
    """The gain, and the share of the errors that were removed."""
    story, dataset = data.story, data.datasets[0]
    gain = data.measures.value(story.result, "gain", dataset)
    error = data.measures.value(story.result, "gain_standard_error", dataset)
    note = "it was not measured"
    if error is not None:
        note = f"± {number(100 * error, 1)} standard error, image by image"
    yield Tile("Gain, in points", points(gain), note, bad=gain is not None and gain < 0)
    compared_top1 = data.top1(story.compared_with)
    removed = None
    if compared_top1 is not None and compared_top1 < 1:
        removed = (result_top1 - compared_top1) / (1 - compared_top1)
    label = "Errors added" if removed is not None and removed < 0 else "Errors removed"
    share = percent(None if removed is None else abs(removed), 0)
    yield Tile(label, share, f"of those of the {story.role(story.compared_with).noun}")


SECTION = Section("headline", "Headline", applies, facts)
