"""Warnings: what to look at first: leaked test images, and classes whose choice may be wrong."""

from collections.abc import Mapping
from typing import Any

from tasks.report.sections import ReportData, Section

LISTED_CLASSES = 12


def applies(data: ReportData) -> bool:
    """Test images are copies, or a class of the choice is suspect, short, doubtful or uncertain."""
    return bool(_leaks(data)) or any(
        card.suspect or card.short or card.doubtful or card.uncertain for card in data.cards
    )


def facts(data: ReportData) -> Mapping[str, Any]:
    """The classes with each fault; those that are shown below can be linked."""
    return {
        "leaks": _leaks(data),
        "k": data.choice.k if data.choice is not None else 0,
        "num_classes": len(data.cards),
        "suspects": [card for card in data.cards if card.suspect],
        "short": [card for card in data.cards if card.short],
        "doubtful": [card for card in data.cards if card.doubtful],
        "uncertain": [card for card in data.cards if card.uncertain],
        "shown": {card.label for card in data.shown_cards},
        "max_listed": LISTED_CLASSES,
    }


def _leaks(data: ReportData) -> list[Mapping[str, Any]]:
    """How many test images are copies of labelled ones, where there are any."""
    found = [output for output in data.story.of_stage("leakage").values() if output.kept]
    return [{"copies": output.kept, "uri": output.uri, **output.body["extra"]} for output in found]


SECTION = Section("warnings", "Warnings", applies, facts)
