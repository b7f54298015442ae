"""protege from Python: every stage and every recipe, in a notebook or a script.

    import protege as pg

    run = pg.open("out")                                  # or pg.open("s3://bucket/out", workers=8)
    labelled, pile = run.shard("labelled/", labelled=True), run.shard("pile/")
    teacher = run.train(labelled, model="resnet50", length="90 epochs")
    chosen = run.topk(run.score(pile, teacher), k=16_000, exclude={"labelled": labelled})
    student = run.train(run.gather(pile, chosen), model="resnet18", length="1e9 images")
    student = run.fine_tune(student, labelled, length="30 epochs")
    student.predict(["cat.jpg"])                          # labels and probabilities

    pg.predict(student, "photos/", "s3://bucket/pile")    # the same of whole sources, as a table
    pg.export(student, "student-onnx", format="onnx")     # or torch-export, timm, hf

    models = pg.recipes.billion_scale(run, options)       # the same verbs, as a campaign

Neither Prefect nor a server is needed, and no cluster unless `workers` or `dask` ask for one. Work
that was done before, by whomever, is found in the root and not done again.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows.campaign.before import check_before_work
from flows.campaign.find import find_campaign, sources_of
from flows.campaign.options import RecipeOptions
from flows.campaign.progress import Bars
from flows.campaign.run import Run as CampaignRun
from flows.campaign.stage_run import Work
from flows.recipes import DEFAULT, RECIPES, Recipe
from infra.errors import ProtegeError
from infra.executors import Cluster, Inline
from infra.settings import DaskSettings
from infra.store import open_store
from tasks.contract import Output, output_at
from tasks.options import problems

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.export import Exported
    from tasks.inference.model import Model, Prediction

__all__ = ["Result", "Run", "export", "load", "open", "predict", "recipes"]


class Result(Output):
    """An output with what a notebook wants of it: pictures, and the answers of a model."""

    def predict(self, images: Any, *, top_k: int = 5) -> "list[Prediction]":
        """The most probable classes of images: paths, bytes or PIL images. Raises ProtegeError."""
        from tasks.inference.model import load_model

        return load_model(self).predict(images, top_k=top_k)

    def __repr__(self) -> str:
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        return f"<{self.stage}: {self.kept:,} rows{rejected}, {self.uri}>"

    def _repr_html_(self) -> str:
        from tasks.preview import preview_html

        return preview_html(self)


class Run(CampaignRun):
    """A root with its machines. Use it in a `with` block, or close it, if it has a cluster."""

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the cluster, if there is one; it starts again with the next work."""
        if isinstance(self.executor, Cluster):
            self.executor.__exit__(None, None, None)

    def output(self, address: str) -> Result:
        """A finished output of any stage, by its address. Raises ProtegeError."""
        return _result(output_at(address))

    def _run_stage(self, stage: str, role: str, work: Work) -> Result:
        with Bars() as bars:
            self._watch = bars.watch
            return _result(super()._run_stage(stage, role, work))


def open(root: str | Path, *, workers: int = 0, dask: str = "") -> Run:  # noqa: A001  pg.open
    """A run in a root: a folder or an s3:// prefix.

    Args:
        root: Where outputs lie, those of other runs included.
        workers: Processes of a Dask cluster on this machine; 0 works in this process.
        dask: Address of a running Dask scheduler, instead.
    """
    settings = DaskSettings(address=dask, workers=workers)
    executor = Cluster(settings) if dask or workers else Inline()
    return Run(open_store(str(root)), executor)


def load(path: str | Path) -> "Model":
    """A model of ours from a weights file, or from the output of a training.

    `model.network` is the torch module, in evaluation mode; `model.decode(image)` gives the pixels
    of its input for a path, bytes or a PIL image; `model.predict(images)` labels and probabilities.
    """
    from tasks.inference.model import open_model

    return open_model(str(path))


def export(
    model: "Model | Output | str | Path",
    out: str | Path,
    *,
    format: str = "onnx",  # noqa: A002  as the command says it
    replace: bool = False,
) -> "Exported":
    """Write a model into a folder: as `onnx`, `torch-export`, `timm`, or `hf` for the hub.

    The files are read back and compared before the folder appears. Raises ProtegeError.
    """
    from tasks.export import Origin
    from tasks.export import export as export_model

    address = model.uri if isinstance(model, Output) else model
    origin = Origin(str(address) if isinstance(address, str | Path) else "")
    return export_model(_model(model), out, format, origin=origin, replace=replace)


def predict(
    model: "Model | Output | str | Path",
    *sources: str | Path,
    top_k: int = 5,
    batch_size: int = 64,
) -> "pa.Table":
    """The most probable classes of all images of files, folders, tars, tables or lists.

    The columns are path, label_1, probability_1, ..., problem: an image that cannot be used is a
    row, too. Raises ProtegeError for a source that is not there.
    """
    from tasks.inference.answer_files import answers_table
    from tasks.inference.answers import answers
    from tasks.inference.sources import list_pictures, read_pictures

    opened, listing = _model(model), list_pictures(map(str, sources))
    size = listing.batch_size(batch_size)
    found = answers(opened, read_pictures(listing), top_k=top_k, batch_size=size)
    return answers_table(found, min(top_k, len(opened.description.classes)))


def _model(model: "Model | Output | str | Path") -> "Model":
    from tasks.inference.model import load_model

    if isinstance(model, Output):
        return load_model(model)
    return load(model) if isinstance(model, str | Path) else model


def _run_recipe(
    recipe: Recipe,
    run: Run,
    options: RecipeOptions | None = None,
    *,
    preset: str = DEFAULT,
    **sections: Any,
) -> dict[str, Result]:
    """Run a recipe as a campaign; returns its models by role. Raises ProtegeError.

    Options are an object, or a preset, and sections by name, as objects or dictionaries.
    """
    chosen = _recipe_options(recipe, options or recipe.preset(preset), sections)
    chosen = chosen.resolved()
    listings = check_before_work(recipe, chosen)
    sources = sources_of(chosen)
    campaign = find_campaign(run.store, recipe.name, chosen, sources, listings=listings)
    inner = Run(run.store, run.executor, campaign=campaign)
    models, _ = recipe.run(inner, chosen)
    return {role: _result(model) for role, model in models.items()}


def _recipe_options(
    recipe: Recipe, base: RecipeOptions, sections: Mapping[str, Any]
) -> RecipeOptions:
    values: dict[str, Any] = {name: getattr(base, name) for name in type(base).model_fields}
    for name, section in sections.items():
        if isinstance(section, Mapping) and name in values:
            section = {**values[name].model_dump(), **section}
        values[name] = section
    try:
        return recipe.load_options().model_validate(values)
    except ValidationError as error:
        raise ProtegeError("; ".join(problems(error, recipe.load_options()))) from None


def _result(output: Output) -> Result:
    return output if isinstance(output, Result) else Result(**asdict(output))


recipes = SimpleNamespace(
    **{recipe.function: functools.partial(_run_recipe, recipe) for recipe in RECIPES.values()}
)
