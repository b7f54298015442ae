"""Flow: a Prefect flow, its signature and its form, made of a table of parameters.

In: a recipe, or a stage by itself. Out: a flow whose parameters are the sections of the recipe's
options, or the addresses of the stage's inputs, each with its sentence of help; `root` comes last.

    billion_scale = recipe_flow(recipe("billion-scale"))
    billion_scale(topk=TopkOptions(k=500), root="out")
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from prefect import flow, runtime
from prefect.flows import Flow
from pydantic import ValidationError

from flows.campaign.before import check_before_work
from flows.campaign.find import find_campaign, sources_of
from flows.campaign.options import RecipeOptions
from flows.campaign.stages import Input, Stage
from flows.engine.link import link_report
from flows.engine.run import readable
from flows.engine.session import open_session
from flows.engine.summary import publish_summary
from flows.recipes import Recipe
from infra.errors import ProtegeError
from infra.settings import Settings
from infra.store import Store, open_store
from tasks import campaigns
from tasks.campaigns import Campaign
from tasks.contract import Output, output_at
from tasks.options import Options, problems

Help = tuple[inspect.Parameter, str]
ROOT = (
    inspect.Parameter("root", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str),
    "Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.",
)


def recipe_flow(
    recipe: Recipe, *, campaign: Campaign | None = None, started: float | None = None
) -> Flow[..., dict[str, Any]]:
    """The flow of a recipe.

    Who has already found the campaign hands it over, so that the sources are listed once, and
    `started` is when the command began, by the monotonic clock: before Prefect was there.
    """
    kind = recipe.load_options()
    default = kind()

    def run_recipe(**parameters: Any) -> dict[str, Any]:
        root = open_store(parameters.pop("root") or Settings().root)
        options = _gather_sections(kind, parameters)
        now = campaign or _campaign_of_run(root, recipe, options.resolved())
        with open_session(root.uri, now) as run:
            _, result = recipe.run(run, options, started)
            publish_summary(result, run, link_report(run.campaign.outputs.get("report")))
            return result

    sections = [
        _parameter(name, getattr(default, name), field.annotation, field.description or "")
        for name, field in kind.model_fields.items()
    ]
    return _make_flow(
        recipe.name, recipe.function, recipe.about + ".", [*sections, ROOT], run_recipe
    )


def _campaign_of_run(root: Store, recipe: Recipe, options: RecipeOptions) -> Campaign:
    """The campaign that this run has begun before it was retried or suspended, or a new one."""
    run = str(runtime.flow_run.id)
    before = campaigns.of_run(root, recipe.name, run)
    if before is not None:
        return before
    listings = check_before_work(recipe, options)
    found = find_campaign(root, recipe.name, options, sources_of(options), listings=listings)
    return campaigns.note_run(root, found, run)


def stage_flow(stage: Stage) -> Flow[..., str]:
    """The flow of a stage by itself: addresses of outputs in, the address of its output out."""

    def run_stage(**parameters: Any) -> str:
        given = _find_inputs(stage.inputs, parameters)
        with open_session(parameters["root"]) as run:
            return stage.call(run, given, parameters.get("options") or Options()).uri

    parameters = [_parameter(entry.name, "", str, entry.help) for entry in stage.inputs]
    if stage.options is not None:
        parameters.append(_parameter("options", stage.options, type(stage.options), stage.help))
    return _make_flow(stage.name, stage.name, stage.about, [*parameters, ROOT], run_stage)


def _make_flow(
    name: str,
    function: str,
    about: str,
    parameters: list[Help],
    body: Callable[..., Any],
) -> Flow[..., Any]:
    signature = inspect.Signature([parameter for parameter, _ in parameters])

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return body(**bound.arguments)

    # Prefect reads the form from these, and workers load the flow by its module and name.
    call.__module__ = "flows.engine.flows"
    call.__name__ = call.__qualname__ = function
    call.__doc__ = (
        about
        + "\n\nArgs:\n"
        + "\n".join(f"    {parameter.name}: {text}" for parameter, text in parameters)
    )
    call.__dict__["__signature__"] = signature
    call.__annotations__ = {parameter.name: parameter.annotation for parameter, _ in parameters}
    return flow(name=name, persist_result=False)(readable(call))


def _parameter(name: str, default: Any, annotation: Any, text: str) -> Help:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=annotation), text


def _gather_sections(kind: type[RecipeOptions], sections: Mapping[str, Any]) -> RecipeOptions:
    """A flow's parameters as the root options of its recipe. Raises ProtegeError."""
    try:
        return kind(**sections)
    except ValidationError as error:
        raise ProtegeError("; ".join(problems(error, kind))) from None


def _find_inputs(inputs: tuple[Input, ...], parameters: Mapping[str, Any]) -> dict[str, Output]:
    return {
        entry.name: output_at(parameters[entry.name], *entry.stages)
        for entry in inputs
        if parameters[entry.name] or not entry.optional
    }
