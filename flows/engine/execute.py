"""Execute: runs a recipe from the command line, or finds that there is nothing to do.

In: a recipe's name and its options. Out: the summary of the finished campaign. Without a Prefect
server (no PREFECT_API_URL), Prefect's own in-process API serves the run.
"""

import time
from typing import Any

from flows.campaign.before import check_before_work
from flows.campaign.find import (
    NO_LISTINGS,
    campaign_key,
    find_campaign,
    is_complete,
    sections_of,
    sources_of,
)
from flows.campaign.options import RecipeOptions
from flows.engine.environment import prepare_command_line
from flows.recipes import recipe
from flows.terminal import note
from infra.crash import Crashed
from infra.errors import ProtegeError, usable_root
from infra.store import Store, open_store
from tasks import campaigns
from tasks.campaigns import Campaign


def execute(name: str, options: RecipeOptions, root: str) -> dict[str, Any]:
    """Run the recipe, or go on with it. Raises ProtegeError with the reason when it fails."""
    started = time.perf_counter()
    options = options.resolved()
    with usable_root(root):
        store, key = open_store(root), f"{name}-{campaign_key(options)}"
        # What a campaign has pinned was checked when it began. Only pinning shows that the sources
        # have changed since, so that this is another campaign.
        pinned = any(known.pinned for known in campaigns.campaigns(store, key))
        listings = NO_LISTINGS if pinned else check_before_work(recipe(name), options)
        campaign = find_campaign(store, name, options, sources_of(options), listings=listings)
        if pinned and not campaign.pinned:
            check_before_work(recipe(name), options)
    _note_unfinished(store, campaign, key)
    return _go_on(campaign, options, root, started)


def resume(campaign: Campaign, root: str) -> dict[str, Any]:
    """Go on with a campaign: its own options, and what its sources held when it began.

    Raises ProtegeError.
    """
    return _go_on(campaign, resumed_options(campaign), root, time.perf_counter())


def resume_command(campaign: Campaign, root: Store) -> str:
    """What to type to go on with a campaign."""
    return f"protege resume {campaign.id} --root {root.uri}"


def _go_on(campaign: Campaign, options: RecipeOptions, root: str, started: float) -> dict[str, Any]:
    if is_complete(campaign):
        note(f"{campaign.id} is complete: nothing to train or to score again")
        return dict(campaign.summary)
    place = open_store(root).uri
    note(f"starting {campaign.recipe}, campaign {campaign.id} (outputs: {place}) ...")
    return _run_flow(campaign, options, root, started)


def _note_unfinished(store: Store, campaign: Campaign, key: str) -> None:
    """Say which campaigns of the same options stay unfinished, because the sources have changed."""
    for other in campaigns.campaigns(store, key):
        if other.pinned and not other.finished and other.id != campaign.id:
            note(
                f"the sources have changed since {other.id} began, so this is another campaign; "
                f"`{resume_command(other, store)}` goes on with what they held then"
            )


def resumed_options(campaign: Campaign) -> RecipeOptions:
    """The options of a campaign, as its recipe's class."""
    kind = recipe(campaign.recipe).load_options()
    # It began before there were committees, and nobody has asked for one.
    older = {"committee": {"members": 0}} if "committee" in kind.model_fields else {}
    return kind.model_validate({**older, **campaign.options})


def _run_flow(
    campaign: Campaign, options: RecipeOptions, root: str, started: float
) -> dict[str, Any]:
    prepare_command_line()
    # Imported here: Prefect reads its settings when it is loaded.
    from flows.engine.flow import recipe_flow
    from flows.engine.logs import quiet_console

    flow = recipe_flow(recipe(campaign.recipe), campaign=campaign, started=started)
    with quiet_console():
        state: Any = flow(**sections_of(options), root=root, return_state=True)
    if state.is_completed():
        result: dict[str, Any] = state.result()
        return result
    error = state.result(raise_on_failure=False)
    if isinstance(error, ProtegeError):
        raise error
    raise ProtegeError(_message(state, error, resume_command(campaign, open_store(root))))


def _message(state: Any, error: object, command: str) -> str:
    """Why a run ended that is no fault of its input, and how to go on. What died speaks last."""
    goes_on = f"What is finished is kept: `{command}` goes on from there"
    if isinstance(error, Crashed):
        return f"{goes_on}.\n{error}"
    if isinstance(error, KeyboardInterrupt):
        raise error
    reason = state.message or f"the run ended as {state.name}"
    return f"{reason}\n{goes_on}."
