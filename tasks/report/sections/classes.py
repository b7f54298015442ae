"""Classes: pictures of the chosen images of each class, and its curve."""

from collections.abc import Mapping
from typing import Any

from tasks.report import plots
from tasks.report.curves import median_curve
from tasks.report.pictures import strips
from tasks.report.sections import ReportData, Section, has_choice


def facts(data: ReportData) -> Mapping[str, Any]:
    """The shown classes with their strips of pictures and their plots."""
    choice, cards = data.choice, data.shown_cards
    assert choice is not None, "the section does not apply"
    names = {card.label: card.name for card in cards}
    suspects = {card.label for card in cards if card.suspect}
    median = median_curve(choice.classes, choice.k)
    return {
        "k": choice.k,
        "num_classes": len(data.cards),
        "cards": cards,
        "strips": strips(choice.images, choice.chosen, names, data.options.images_per_strip),
        "plots": {
            curve.label: plots.class_curve(median, curve, choice.k, suspect=curve.label in suspects)
            for curve in data.curves
        },
    }


SECTION = Section("classes", "Class by class", has_choice, facts, "classes")
