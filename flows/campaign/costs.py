"""Costs: what the rest of a campaign is about to take, in images, steps and, if known, hours.

In: the run, and what is about to be scored and trained. Out: lines for people. The rates are those
of the newest finished campaigns in the same root; without one, only the amounts are told.
"""

from flows.campaign.run import Run
from tasks.campaigns import Campaign, campaigns, newest_first
from tasks.contract import Output
from tasks.train import TrainOptions


def scoring(run: Run, pile: Output) -> str:
    """What it takes to score the pile."""
    amount = f"score: {pile.kept:,} images of the pile, but for those scored before"
    for campaign in newest_first(campaigns(run.store)):
        made = _made(campaign, "score")
        if made is not None and made.rows_in:
            return amount + _told(pile.kept * made.seconds / made.rows_in, campaign)
    return amount


def training(run: Run, role: str, options: TrainOptions, images: int) -> str:
    """What a training takes."""
    steps = options.total_steps(images)
    amount = f"{role}: {steps:,} steps of {options.batch_size:,} images, {options.model}"
    for campaign in newest_first(campaigns(run.store)):
        section = campaign.options.get(role, {})
        alike = (section.get("model"), section.get("batch_size"))
        made = _made(campaign, "pretrained" if role == "student" else role)
        if made is not None and alike == (options.model, options.batch_size):
            earlier = made.body["extra"]["steps"]
            if earlier:
                return amount + _told(steps * made.seconds / earlier, campaign)
    return amount


def _made(campaign: Campaign, role: str) -> Output | None:
    """The output of a role, when that campaign did all the work for it."""
    found = campaign.outputs.get(role)
    return Output(**found) if found and not found["reused"] else None


def _told(seconds: float, campaign: Campaign) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    clock = f"{hours:,} h {minutes} min" if hours else f"{max(1, minutes)} min"
    return f"; about {clock} at the rate of {campaign.id}"
