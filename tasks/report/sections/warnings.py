"""Warnings: the classes to look at first, because their choice may be wrong."""

from collections.abc import Mapping
from typing import Any

from tasks.report.sections import ReportData, Section

LISTED_CLASSES = 12


def applies(data: ReportData) -> bool:
    """A class of the choice is suspect, short, doubtful or uncertain."""
    return any(card.suspect or card.short or card.doubtful or card.uncertain for card in data.cards)


def facts(data: ReportData) -> Mapping[str, Any]:
    """The classes with each fault; those that are shown below can be linked."""
    assert data.choice is not None, "without a choice there are no cards"
    return {
        "k": data.choice.k,
        "num_classes": len(data.cards),
        "suspects": [card for card in data.cards if card.suspect],
        "short": [card for card in data.cards if card.short],
        "doubtful": [card for card in data.cards if card.doubtful],
        "uncertain": [card for card in data.cards if card.uncertain],
        "shown": {card.label for card in data.shown_cards},
        "max_listed": LISTED_CLASSES,
    }


SECTION = Section("warnings", "Warnings", applies, facts)
