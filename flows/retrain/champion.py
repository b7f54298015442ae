"""Champion: the student that is in use, and the decisions about those that wanted its place.

In: a root and the name of a champion. Out: entries of the pointer `champions/<name>`, each with the
decision that made it, and `champions/<name>/decisions/<campaign>.json` for those that were refused.

A student is promoted when it beats the champion on the promotion set, image by image, by more than
a margin and so many standard errors. The test set decides nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flows.recipes import recipe
from infra.errors import ProtegeError, utc_now
from infra.names import check_name
from infra.pointers import Pointer, PointerEntry
from infra.store import Store
from tasks.campaigns import find, output_from, output_values
from tasks.contract import Output

FOLDER = "champions"


@dataclass(frozen=True)
class Comparison:
    """A student beside the champion, on the same images of the promotion set.

    `gain` is the mean difference of being right, in shares of 1, with its standard error; both are
    None when there is nothing to compare with, for the reason in `why_not`.
    """

    images: int = 0
    gain: float | None = None
    standard_error: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a campaign's student was promoted, and why."""

    campaign: str
    promoted: bool
    text: str
    comparison: Comparison


def pointer(root: Store, name: str) -> Pointer:
    """The pointer of a champion. Raises ProtegeError for what is no name."""
    return Pointer(root, f"{FOLDER}/{check_name('champion', name)}")


def decided(root: Store, name: str, campaign: str) -> bool:
    """Whether nothing is left to decide about this campaign's student: it was, or it is in use."""
    history = pointer(root, name).history()
    if history and history[-1].content["campaign"] == campaign:
        return True
    promoted = (entry.content for entry in history if entry.content["decision"])
    return any(entry["campaign"] == campaign for entry in promoted) or root.exists(
        _decision_path(name, campaign)
    )


def student_of(root: Store, entry: PointerEntry) -> Output:
    """The model of an entry, as it lies below this root, which may have been moved."""
    return output_from(root, entry.content["student"])


def decide(
    campaign: str,
    champion: PointerEntry | None,
    found: Comparison,
    margin: float,
    standard_errors: float,
) -> Decision:
    """Whether the student takes the champion's place.

    With a gain g and its standard error s: when g - standard_errors * s > margin.
    """
    if champion is None:
        return Decision(campaign, True, f"{campaign} is the first champion", found)
    holder = champion.content["campaign"]
    if found.gain is None or found.standard_error is None:
        text = f"{campaign} cannot be compared with {holder}: {found.why_not}. "
        text += f"To put it in its place all the same: protege champion --promote {campaign}"
        return Decision(campaign, False, text, found)
    sure = found.gain - standard_errors * found.standard_error
    gained = f"{_points(found.gain)} points (standard error {100 * found.standard_error:.2f})"
    over = f"on {found.images:,} images of the promotion set"
    if sure > margin:
        return Decision(campaign, True, f"{campaign} beats {holder} by {gained} {over}", found)
    needed = margin + standard_errors * found.standard_error
    text = (
        f"{campaign} gains {gained} over {holder} {over}; more than {_points(needed)} are needed, "
    )
    text += f"so it fails by {100 * (needed - found.gain):.2f}"
    return Decision(campaign, False, text, found)


def record(
    root: Store, name: str, decision: Decision, champion: PointerEntry | None, student: Output
) -> None:
    """Move the pointer if the student was promoted, else note why not. Raises ProtegeError.

    One write does either, so that whoever is killed between two leaves no half of a decision.
    """
    if decision.promoted:
        entry = _entry(decision.campaign, student, decision.text, asdict(decision))
        pointer(root, name).move(entry, after=champion)
        return
    body = json.dumps(asdict(decision), indent=1, ensure_ascii=False).encode()
    root.replace(_decision_path(name, decision.campaign), body)


def promote(root: Store, name: str, campaign: str) -> PointerEntry:
    """Put a campaign's student in place by hand. Raises ProtegeError for an unfinished one."""
    place = pointer(root, name)
    found = find(root, campaign)
    if found is None or not found.finished:
        state = "not finished" if found else "not in this root"
        raise ProtegeError(
            f"campaign {campaign} is {state}; `protege champion` needs a finished one"
        )
    student = found.outputs[recipe(found.recipe).result]
    return place.move(_entry(campaign, student, "by hand", {}), after=place.last())


def rollback(root: Store, name: str) -> PointerEntry:
    """Point to the champion before the last one. Raises ProtegeError when there is none."""
    place = pointer(root, name)
    history = place.history()
    succession = _succession(history)
    if len(succession) < 2:
        raise ProtegeError(f"{FOLDER}/{name} has no champion before this one to go back to")
    before = succession[-2]
    content = {**before.content, "why": f"back to number {before.number}", "at": utc_now()}
    return place.move(content, after=history[-1])


def _succession(history: list[PointerEntry]) -> list[PointerEntry]:
    """The champions up to the present one, each after the one that it took the place of.

    A rollback cuts it, so that going back twice goes back two champions, not forth again.
    """
    champions: list[PointerEntry] = []
    for entry in history:
        names = [earlier.content["campaign"] for earlier in champions]
        if entry.content["campaign"] in names:
            champions = champions[: names.index(entry.content["campaign"]) + 1]
        else:
            champions = [*champions, entry]
    return champions


def _entry(campaign: str, student: Output, why: str, decision: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "campaign": campaign,
        "student": output_values(student),
        "why": why,
        "decision": decision,
        "at": utc_now(),
    }


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _decision_path(name: str, campaign: str) -> str:
    folder = f"{FOLDER}/{check_name('champion', name)}/decisions"
    return f"{folder}/{check_name('campaign', campaign)}.json"
