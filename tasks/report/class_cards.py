"""Class cards: what the page says of each class of a choice, and of which classes it warns.

In: the choice, the measures and the suspect classes. Out: a `ClassCard` for each class.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tasks.evaluate import SuspectClass
from tasks.report.choice import Choice
from tasks.report.format import probability
from tasks.report.measures import Measures
from tasks.topk import count_dropped


@dataclass(frozen=True)
class Estimate:
    """The share of a class's images that is right, as a committee says, with its interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassCard:
    """A class of the choice; None for what was not measured. Shares are in [0, 1].

    Three things may be wrong with its choice: it is `short` of images, `doubtful` when its last
    images are more likely of another class, and `uncertain` when it may not be exact. `suspect` is
    the reason why it may have filled with images of other things, or empty; `dropped` says that
    nothing learned from its images for such a reason.
    """

    label: int
    name: str
    kept: int
    candidates: int
    kth_log_odds: float | None
    certified: bool
    agreement: float | None
    precision: float | None
    estimate: Estimate | None
    dropped: bool
    suspect: str
    short: bool
    doubtful: bool
    uncertain: bool
    warnings: tuple[str, ...]


def make_cards(
    choice: Choice,
    measures: Measures,
    suspects: Sequence[SuspectClass],
    precision: pa.Table | None = None,
    dropped: Collection[str] = (),
) -> list[ClassCard]:
    """A card for each class, in the order of the labels.

    `precision` is a committee's; `dropped` are the classes that were not learned for it.
    """
    reasons = {suspect.label: suspect.reason for suspect in suspects}
    rows = choice.classes.drop_columns(["histogram"]).to_pylist()
    estimates = {
        row["label"]: Estimate(row["estimate"], row["low"], row["high"])
        for row in (precision.to_pylist() if precision is not None else [])
        if row["estimate"] is not None
    }
    cards = [_card(choice, measures, row, reasons, estimates.get(row["label"])) for row in rows]
    return [replace(card, dropped=card.name in dropped) for card in cards]


def most_in_need(cards: Sequence[ClassCard], k: int, max_classes: int) -> list[ClassCard]:
    """The classes to show; when there are more, the suspect, short and uncertain ones first."""
    if len(cards) <= max_classes:
        return list(cards)

    def need(card: ClassCard) -> tuple[bool, float, bool, float, int]:
        agreement = 1.0 if card.agreement is None else card.agreement
        return (not card.suspect, card.kept / k, card.certified, agreement, card.label)

    return sorted(cards, key=need)[:max_classes]


def _card(
    choice: Choice,
    measures: Measures,
    row: Mapping[str, Any],
    reasons: Mapping[int, str],
    estimate: Estimate | None,
) -> ClassCard:
    label, kept = row["label"], row["kept"]
    short = kept < choice.k and not choice.across_classes
    doubtful = choice.options.mode == "per_class" and kept > 0 and row["kth_log_odds"] < 0
    uncertain = choice.can_be_certified and not row["certified"]
    return ClassCard(
        label=label,
        name=row["name"],
        kept=kept,
        candidates=row["candidates"],
        kth_log_odds=row["kth_log_odds"],
        certified=row["certified"],
        agreement=measures.of_choice("view_agreement", label),
        precision=measures.of_choice("precision", label),
        estimate=estimate,
        dropped=False,
        suspect=reasons.get(label, ""),
        short=short,
        doubtful=doubtful,
        uncertain=uncertain,
        warnings=tuple(_warnings(choice, row, short, doubtful, uncertain)),
    )


def _warnings(
    choice: Choice, row: Mapping[str, Any], short: bool, doubtful: bool, uncertain: bool
) -> Iterator[str]:
    if short:
        dropped = sum(count_dropped(row).values())
        yield (
            f"short: {row['kept']:,} of {choice.k:,} places are filled, because only "
            f"{row['candidates']:,} images {choice.candidate_phrase}"
            + (f", {dropped:,} of them near-duplicates" if dropped else "")
        )
    if uncertain:
        yield (
            "not certified: an image whose best classes were cut off before this one might have "
            "ranked; raise score.top_p and topk.top_p to be sure"
        )
    if doubtful:
        yield (
            f"its last image has p {probability(row['kth_log_odds'])}: K may be more than the pile "
            "has of this class"
        )
