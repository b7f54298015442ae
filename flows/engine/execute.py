"""Execute: runs a recipe from the command line, or finds that there is nothing to do.

In: a recipe's name and its options. Out: the summary of the finished campaign. Without a Prefect
server (no PREFECT_API_URL), Prefect's own in-process API serves the run.
"""

import time
from typing import Any

from rich.console import Console

from flows.campaign.find import find_campaign, is_complete, sections_of, sources_of
from flows.campaign.options import RecipeOptions
from flows.engine.environment import prepare_command_line
from flows.recipes import recipe
from infra.errors import ProtegeError
from infra.store import open_store
from tasks.campaigns import Campaign


def execute(name: str, options: RecipeOptions, root: str) -> dict[str, Any]:
    """Run the recipe, or go on with it. Raises ProtegeError with the reason when it fails."""
    started = time.perf_counter()
    console = Console(stderr=True)
    try:
        campaign = find_campaign(open_store(root), name, options, sources_of(options))
    except OSError as error:
        raise ProtegeError(f"the root {root} cannot be used: {error}") from error
    if is_complete(campaign):
        console.print(f"{campaign.id} is complete: nothing to train or to score again")
        return dict(campaign.summary)
    console.print(f"starting {name} (outputs: {root}) ...")
    return _run_flow(campaign, options, root, started)


def resume(campaign: Campaign, root: str) -> dict[str, Any]:
    """Go on with a campaign, with its own options. Raises ProtegeError."""
    return execute(campaign.recipe, resumed_options(campaign), root)


def resumed_options(campaign: Campaign) -> RecipeOptions:
    """The options of a campaign, as its recipe's class."""
    return recipe(campaign.recipe).load_options().model_validate(campaign.options)


def _run_flow(
    campaign: Campaign, options: RecipeOptions, root: str, started: float
) -> dict[str, Any]:
    prepare_command_line()
    # Imported here: Prefect reads its settings when it is loaded.
    from flows.engine.flow import recipe_flow

    flow = recipe_flow(recipe(campaign.recipe), campaign=campaign, started=started)
    state: Any = flow(**sections_of(options), root=root, return_state=True)
    if state.is_completed():
        result: dict[str, Any] = state.result()
        return result
    message = state.message or f"the run ended as {state.name}"
    raise ProtegeError(f"{message}\nWhat is finished is kept: the same command goes on from there.")
