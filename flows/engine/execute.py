"""Execute: runs a recipe from the command line, or finds that there is nothing to do.

In: a recipe's name and its options. Out: the summary of the finished campaign. Without a Prefect
server (no PREFECT_API_URL), Prefect's own in-process API serves the run.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.campaign.run import STARTED, find_campaign
from flows.operate.environment import NO_CALLS_HOME
from flows.recipes import recipe
from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks.campaigns import Campaign
from tasks.contract import find_output
from tasks.options import Options
from tasks.shard import ShardOptions

# What a laptop wants of Prefect's in-process API.
PREFECT_DEFAULTS = {
    **NO_CALLS_HOME,
    # The bars say what goes on; the UI has every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}


def execute(name: str, options: Options, root: str) -> dict[str, Any]:
    """Run the recipe, or go on with it. Raises ProtegeError with the reason when it fails."""
    STARTED.set(time.perf_counter())
    for variable, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    console = Console(stderr=True)
    done = _finished(name, options, root)
    if done is not None:
        console.print(f"{done['campaign']} is complete: nothing to train or to score again")
        return done
    console.print(f"starting {name} (outputs: {root}) ...")
    flow = recipe(name).load_flow()
    state = flow(**sections_of(options), root=root, return_state=True)
    if state.is_completed():
        result: dict[str, Any] = state.result()
        return result
    message = state.message or f"the run ended as {state.name}"
    raise ProtegeError(f"{message}\nWhat is finished is kept: the same command goes on from there.")


def sections_of(options: Options) -> dict[str, Any]:
    """The sections of a recipe's options, which are the parameters of its flow."""
    return {name: getattr(options, name) for name in type(options).model_fields}


def sources_of(options: Options) -> dict[str, ShardOptions]:
    """The sections that are image sources, by role."""
    sections = sections_of(options)
    return {role: one for role, one in sections.items() if isinstance(one, ShardOptions)}


def unchanged(store: Store, campaign: Campaign) -> bool:
    """Whether the campaign is finished, and all that it made is still there."""
    return campaign.finished and all(
        find_output(open_store(f"{store.uri}/{one['stage']}/{one['fingerprint']}"), one["manifest"])
        for one in campaign.outputs.values()
    )


def _finished(name: str, options: Options, root: str) -> dict[str, Any] | None:
    """The summary of the campaign, when the sources have not changed since it was completed."""
    try:
        store = open_store(root)
        campaign = find_campaign(store, name, options, sources_of(options))
    except OSError as error:
        raise ProtegeError(f"the root {root} cannot be used: {error}") from error
    return dict(campaign.summary) if unchanged(store, campaign) else None


def resumed_options(campaign_options: Mapping[str, Any], name: str) -> Options:
    """The options of a campaign, as its recipe's class."""
    options: Options = recipe(name).load_options().model_validate(campaign_options)
    return options
