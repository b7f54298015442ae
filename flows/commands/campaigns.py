"""Campaigns: those of a root, with their figures and models, for people and for programs.

In: a root. Out: lines, or plain values.
"""

from typing import Any

from flows.campaign.summary import model_lines, top1_rows
from infra.store import Store
from tasks import campaigns
from tasks.campaigns import Campaign


def find_campaign(root: Store, name: str) -> Campaign | None:
    """The campaign of this name, if it is in this root."""
    return campaigns.find(root, name)


def all_campaigns(root: Store) -> list[Campaign]:
    """Unfinished ones first, then by the time of their end."""
    return sorted(campaigns.campaigns(root), key=lambda campaign: campaign.finished_at)


def list_lines(found: list[Campaign]) -> list[str]:
    """A line for each campaign: its name, its state and the accuracies that were measured."""
    if not found:
        return ["there are no campaigns in this root"]
    return [
        f"{campaign.id}  {_state(campaign)}  {_figures(campaign)}".rstrip() for campaign in found
    ]


def campaign_lines(campaign: Campaign) -> list[str]:
    """What it reads, what came out, and where its outputs and models are."""
    lines = [f"{campaign.id}: campaign of the recipe {campaign.recipe}, {_state(campaign)}"]
    for role in campaign.snapshots:
        lines.append(f"  {role}.source: {campaign.options[role]['source']}")
    if campaign.summary:
        lines += [f"  {title}: {top1:.1%} right" for title, top1 in top1_rows(campaign.summary)]
        lines.append(f"  report: {campaign.summary['report']}")
    for role, output in campaign.outputs.items():
        lines.append(f"  {role}: {output.uri} ({output.kept:,} rows)")
    return [*lines, *model_lines(campaign)]


def campaign_content(campaign: Campaign) -> dict[str, Any]:
    """The same, for a program."""
    return {
        "campaign": campaign.id,
        "recipe": campaign.recipe,
        "finished_at": campaign.finished_at,
        "sources": {role: campaign.options[role]["source"] for role in campaign.snapshots},
        "summary": dict(campaign.summary),
        "outputs": {role: output.uri for role, output in campaign.outputs.items()},
    }


def _state(campaign: Campaign) -> str:
    return f"finished {campaign.finished_at}" if campaign.finished else "not finished"


def _figures(campaign: Campaign) -> str:
    if not campaign.summary:
        return f"{len(campaign.outputs)} outputs"
    return ", ".join(f"{title} {top1:.1%}" for title, top1 in top1_rows(campaign.summary))
