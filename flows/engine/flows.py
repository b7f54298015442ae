"""Flows: every recipe and every stage as a Prefect flow, by the name of its function.

Workers load them from here: `flows.engine.flows.billion_scale`. Two flows take no address of an
output, or return none, and are written out.
"""

from typing import Any

from prefect import flow, get_run_logger

from flows.campaign.stages import STAGES
from flows.campaign.summary import story_of
from flows.engine.flow import recipe_flow, stage_flow
from flows.engine.link import link_report
from flows.engine.run import readable
from flows.engine.session import open_session
from flows.recipes import RECIPES
from infra.errors import ProtegeError
from tasks.campaigns import find
from tasks.contract import output_at
from tasks.report import ReportOptions
from tasks.shard import ShardOptions, recheck_rejects


def __getattr__(name: str) -> Any:
    """The flow of this name, made when it is asked for: each one loads the options of its own."""
    for recipe in RECIPES.values():
        if recipe.function == name:
            return recipe_flow(recipe)
    if name in STAGES:
        return stage_flow(STAGES[name])
    raise AttributeError(name)


@flow(name="report", persist_result=False)
@readable
def report(campaign: str = "", options: ReportOptions = ReportOptions(), root: str = "") -> str:
    """Write the page of a finished campaign anew, with other options.

    Args:
        campaign: Name of the campaign.
        options: How the page looks.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    with open_session(root) as run:
        found = find(run.store, campaign)
        if found is None:
            raise ProtegeError(f"{run.store.uri} has no campaign {campaign!r}")
        page = run.report(options, story=story_of(run.store, found))
        link_report(page)
        return page.uri


@flow(name="recheck-rejects", persist_result=False)
@readable
def recheck(images: str = "", root: str = "") -> dict[str, Any]:
    """Check the files once more that could not be used, and add those that now can.

    Args:
        images: Address of an output of shard.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    with open_session(root) as run:
        output = output_at(images, "shard")
        lines = recheck_rejects(run.store, output).lines()
        for line in lines:
            get_run_logger().info(line)
        options = ShardOptions.model_validate(output.options)
        return {"images": run.shard(options=options).uri, "rechecked": lines}
