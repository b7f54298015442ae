"""Warnings: what to look at first.

A teacher that is often wrong, test images that are copies, images of one colour, and classes whose
choice may be wrong.
"""

from collections.abc import Mapping
from typing import Any

from tasks.evaluate import wilson
from tasks.report.sections import ReportData, Section

LISTED_CLASSES = 12
HALF = 0.5
MANY_BLANKS = 0.01  # of the chosen images
DEVIATIONS = 2.0  # of the accuracy of a teacher, below which it is surely less than half


def applies(data: ReportData) -> bool:
    """There is one."""
    if _leaks(data) or _weak_teachers(data) or _many_blanks(data):
        return True
    return any(card.suspect or card.short or card.doubtful or card.uncertain for card in data.cards)


def facts(data: ReportData) -> Mapping[str, Any]:
    """The classes with each fault; those that are shown below can be linked."""
    return {
        "weak_teachers": _weak_teachers(data),
        "leaks": _leaks(data),
        "blanks": data.blanks if _many_blanks(data) else None,
        "k": data.choice.k if data.choice is not None else 0,
        "num_classes": len(data.cards),
        "suspects": [card for card in data.cards if card.suspect],
        "is_estimated": data.precision is not None,
        "short": [card for card in data.cards if card.short],
        "doubtful": [card for card in data.cards if card.doubtful],
        "uncertain": [card for card in data.cards if card.uncertain],
        "shown": {card.label for card in data.shown_cards},
        "max_listed": LISTED_CLASSES,
    }


def _weak_teachers(data: ReportData) -> list[Mapping[str, Any]]:
    """The teachers that are surely right on less than half of the images they were measured on."""
    if data.choice is None or not data.datasets:
        return []
    dataset = data.datasets[0]
    found: list[Mapping[str, Any]] = []
    for teacher in data.choice.teachers:
        role = data.role_of(teacher)
        figure = data.measures.figure(role, "top1", dataset)
        if figure and wilson(figure.value, figure.count, DEVIATIONS)[1] < HALF:
            nouns = {"noun": data.story.role(role).noun, "dataset": data.story.role(dataset).noun}
            found.append({**nouns, "top1": figure.value, "count": figure.count})
    return found


def _many_blanks(data: ReportData) -> bool:
    return data.blanks is not None and data.blanks.share >= MANY_BLANKS


def _leaks(data: ReportData) -> list[Mapping[str, Any]]:
    """How many test images are copies of labelled ones, where there are any."""
    found = [output for output in data.story.of_stage("leakage").values() if output.kept]
    return [{"copies": output.kept, "uri": output.uri, **output.body["extra"]} for output in found]


SECTION = Section("warnings", "Warnings", applies, facts)
