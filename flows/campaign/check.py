"""Check: what is wrong with a campaign and can be seen before any work.

In: a recipe and its sources. Out: their sizes, or a ProtegeError with the option's full name:
sources that are empty or have no classes, classes of the test set that nothing can learn, audit
lists, tables of tags and networks that are not there, weights that are not there or do not fit.
"""

from importlib.util import find_spec

from flows.campaign.find import sections_of, sources_of
from flows.campaign.survey import Sources, SourceSize
from flows.recipes import Recipe
from infra.errors import ProtegeError, name_options
from models.registry import PROJECTED, TIMM_PREFIX
from tasks.evaluate import EvaluateOptions
from tasks.evaluate.choice import audit_digest
from tasks.tags import TagOptions, read_mapping
from tasks.train import TrainOptions
from tasks.train.start.fit import check_fit

LISTED = 5


def check(recipe: Recipe, sources: Sources, *, whole: bool = False) -> dict[str, SourceSize]:
    """The sizes of the labelled sources; of all of them, where `whole`. Raises ProtegeError."""
    sections = sections_of(sources.options).items()
    tagged = {name: _check_tags(name, own) for name, own in sections if isinstance(own, TagOptions)}
    sizes = sources.sizes(whole=whole or bool(tagged))
    if tagged:
        _check_tagged(sources)
    _check_classes(recipe.labelled, sizes)
    labels = sizes[recipe.labelled].classes if recipe.labelled in sizes else None
    for name, section in sections:
        if isinstance(section, TrainOptions):
            is_other = name in sources.options.OTHER_CLASSES
            _check_network(name, section, next(iter(tagged.values()), None) if is_other else labels)
        if isinstance(section, EvaluateOptions):
            _check_audit(name, section)
    return sizes


def _check_classes(labelled: str, sizes: dict[str, SourceSize]) -> None:
    known = sizes[labelled].classes if labelled in sizes else None
    if known is None:
        return  # what lies in tar files is checked when it has been read
    if len(known) < 2:
        raise ProtegeError(
            f"{labelled}.source: at least 2 classes are needed, and it has {len(known)} "
            f"({', '.join(known) or 'none'}): give a folder with a folder for each class"
        )
    for role, size in sizes.items():
        others = sorted(set(size.classes or ()) - set(known))
        if others:
            raise ProtegeError(
                f"{role}.source: {len(others):,} of its classes have no image in "
                f"{labelled}.source: {', '.join(others[:LISTED])}; there are: "
                f"{', '.join(known[:LISTED])}. Label some of each, or take these classes out"
            )


def _check_network(section: str, options: TrainOptions, classes: tuple[str, ...] | None) -> None:
    if options.model.startswith(TIMM_PREFIX):
        name = options.model.removesuffix(PROJECTED)
        _check_timm(section, name.removeprefix(TIMM_PREFIX))
    if options.start.weights:
        try:
            check_fit(options, classes)
        except ProtegeError as error:
            name_options(error, f"{section}.{{}}".format)
            raise ProtegeError(f"{section}: {error}") from None


def _check_timm(section: str, name: str) -> None:
    if find_spec("timm") is None:
        raise ProtegeError(
            f"{section}.model: timm/{name} needs the package timm, which is not installed: "
            "`pip install timm`, or take one that `protege models` lists"
        )
    import timm

    if not timm.is_model(name.partition(".")[0]):
        close = timm.list_models(f"*{name.partition('.')[0][:8]}*")[:LISTED]
        hint = f"; near it are: {', '.join(close)}" if close else ""
        raise ProtegeError(f"{section}.model: timm has no network {name!r}{hint}")


def _check_tags(section: str, options: TagOptions) -> tuple[str, ...] | None:
    """The classes that a table of tags has; without one, they are not known yet."""
    try:
        classes = read_mapping(options.table).classes
    except ProtegeError as error:
        raise ProtegeError(f"{section}.table: {error}") from None
    if classes is not None and len(classes) < 2:
        raise ProtegeError(
            f"{section}.table: all tags mean {classes[0]!r}, and at least 2 classes are needed"
        )
    return classes


def _check_tagged(sources: Sources) -> None:
    """Raise ProtegeError for a pile of files that have no tags; what lies in tars is not known."""
    for role, options in sources_of(sources.options).items():
        files = sources.listings[role].files
        known = all(not file.is_container for file in files)
        if not options.labelled and known and not any(file.tags for file in files):
            raise ProtegeError(
                f"{role}.source: none of its {len(files):,} images has a tag: give a list (.csv) "
                "with the columns uri and tags, a table with a column tags, or tars with .json or "
                ".txt files beside the images (docs/sources.md)"
            )


def _check_audit(section: str, options: EvaluateOptions) -> None:
    try:
        audit_digest(options)
    except ProtegeError as error:
        raise ProtegeError(f"{section}.audit: {error}") from None
