"""Execute: runs a recipe from the command line, or finds that there is nothing to do.

In: a recipe's name and its options. Out: the summary of the finished campaign. Without a Prefect
server (no PREFECT_API_URL), Prefect's own in-process API serves the run.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.recipes import recipe
from flows.run import STARTED, find_campaign
from infra.errors import ProtegeError
from infra.storage import open_store
from tasks.contract import find_output
from tasks.options import Options
from tasks.shard import ShardOptions

# What a laptop wants of Prefect's in-process API: time to start, and no calls home.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The bars say what goes on; the UI has every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}


def execute(name: str, options: Options, root: str) -> dict[str, Any]:
    """Run the recipe, or go on with it. Raises ProtegeError with the reason when it fails."""
    STARTED.set(time.perf_counter())
    for variable, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    console = Console(stderr=True)
    sections = {section: getattr(options, section) for section in type(options).model_fields}
    done = _finished(name, options, sections, root)
    if done is not None:
        console.print(f"{done['campaign']} is complete: nothing to train or to score again")
        return done
    console.print(f"starting {name} (outputs: {root}) ...")
    flow = recipe(name).load_flow()
    state = flow(**sections, root=root, return_state=True)
    if state.is_completed():
        result: dict[str, Any] = state.result()
        return result
    message = state.message or f"the run ended as {state.name}"
    raise ProtegeError(f"{message}\nWhat is finished is kept: the same command goes on from there.")


def _finished(
    name: str, options: Options, sections: Mapping[str, Any], root: str
) -> dict[str, Any] | None:
    """The summary of the campaign, when the sources have not changed since it was completed."""
    sources = {
        role: section for role, section in sections.items() if isinstance(section, ShardOptions)
    }
    try:
        campaign = find_campaign(open_store(root), name, options, sources)
    except OSError as error:
        raise ProtegeError(f"the root {root} cannot be used: {error}") from error
    if not campaign.finished:
        return None
    whole = all(
        find_output(open_store(f"{root}/{one['stage']}/{one['fingerprint']}"), one["manifest"])
        for one in campaign.outputs.values()
    )
    return dict(campaign.summary) if whole else None


def resumed_options(campaign_options: Mapping[str, Any], name: str) -> Options:
    """The options of a campaign, as its recipe's class."""
    options: Options = recipe(name).load_options().model_validate(campaign_options)
    return options
