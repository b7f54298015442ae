"""Given weights: whose classes and inputs they are, before anything is trained or scored with them.

In: options with `start.weights`, and the classes of this training. Out: `GivenWeights`, with the
classes in the order of the weights' head, where it is kept. A file that protege wrote says itself
what it is; of any other, somebody must say its classes, because weights with as many classes in
another order would give every image a wrong one.

    given = look_at_given(options, classes)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from infra.errors import ProtegeError
from infra.store import split_uri
from models.registry import TIMM_PREFIX, published_inputs
from tasks.images import PIXEL_SCALES
from tasks.inference.weights import Description
from tasks.train.options import LABELLED, TrainOptions
from tasks.train.start.projected import goes_on_from, no_projection
from tasks.train.start.source import Source, find_source

LISTED_CLASSES = 5


@dataclass(frozen=True)
class GivenWeights:
    """The digest of a file of weights, and the classes of a head that is kept, in their order."""

    digest: str = ""
    classes: tuple[str, ...] = ()


def look_at_given(options: TrainOptions, classes: Sequence[str] | None) -> GivenWeights:
    """What is known of the weights that the options name; nothing without.

    The classes of the images are None before their labels have been read.
    Raises ProtegeError when they cannot be read, when they are of another network, have other
    inputs or lack a class, and when nobody says the classes of a head that is kept.
    """
    weights = options.start.weights
    if not weights:
        return GivenWeights()
    source = find_source(weights)
    digest, description = source.look()
    if description is not None:
        _check_description(description, options, source)
    if source.published is not None:
        published = source.published
        _check_options(published.name, options, published.network, pixels=published.pixels)
    elif weights.startswith(TIMM_PREFIX):
        _check_timm(weights, options)
    if options.start.head != "keep":
        return GivenWeights(digest)
    described = description or source.published
    known = _named_classes(options, classes) if described is None else described.classes
    missing = [name for name in classes or () if name not in known]
    if classes and missing:
        raise ProtegeError(
            f"weights {weights} do not know the class {missing[0]!r}: their classes are "
            f"{list_classes(known)}, and those of the images are {list_classes(classes)}. Set "
            "options.start.head to linear or new for these classes, or name the folders as the "
            "weights name theirs"
        )
    return GivenWeights(digest, tuple(known))


def list_classes(classes: Sequence[str]) -> str:
    """The first few classes, and how many there are."""
    more = f", ... {len(classes):,} in all" if len(classes) > LISTED_CLASSES else ""
    return ", ".join(classes[:LISTED_CLASSES]) + more


def _named_classes(options: TrainOptions, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of weights that do not name them, as the options do."""
    start = options.start
    if start.classes == LABELLED:
        return tuple(classes or ())
    if not start.classes:
        theirs = f" ({list_classes(classes)})" if classes else ""
        raise ProtegeError(
            f"weights {start.weights} do not say what their classes are: set options.start.head to "
            "linear or new for the classes of the labelled images, or options.start.classes to a "
            "text file with the name of a class in each line, in the order of the weights, or to "
            f"{LABELLED!r} if it is that of the labelled images{theirs}"
        )
    names = _read_names(start.classes)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ProtegeError(f"options.start.classes: {start.classes} names {twice!r} twice")
    return names


def _read_names(uri: str) -> tuple[str, ...]:
    store, name = split_uri(uri)
    try:
        text = store.read(name).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ProtegeError(f"options.start.classes: {uri} cannot be read: {error}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _check_timm(weights: str, options: TrainOptions) -> None:
    """Refuse inputs that are not those of timm's own configuration of these weights."""
    try:
        inputs = published_inputs(weights)
    except (ModuleNotFoundError, ValueError) as error:
        raise ProtegeError(f"weights {weights} cannot be used: {error}") from error
    scales = {name: tuple(map(tuple, scale)) for name, scale in PIXEL_SCALES.items()}
    wanted = (tuple(inputs.mean), tuple(inputs.std))
    pixels = next((name for name, scale in scales.items() if scale == wanted), None)
    if pixels is None:
        raise ProtegeError(
            f"weights {weights} expect pixels of mean {inputs.mean} and deviation {inputs.std}, "
            f"which is no scale of options.inputs.pixels ({', '.join(scales)}): take others"
        )
    # Weights of timm also fit a network of ours whose keys are the same.
    model = weights if options.model.startswith(TIMM_PREFIX) else options.model
    _check_options(weights, options, model, pixels=pixels, interpolation=inputs.interpolation)


def _check_options(weights: str, options: TrainOptions, model: str, **inputs: str) -> None:
    """Refuse a network and inputs that are not those of the weights."""
    if wanted := _to_set(options, {"model": model}, inputs):
        raise ProtegeError(f"the weights {weights} are for other options: set {wanted}")


def _check_description(description: Description, options: TrainOptions, source: Source) -> None:
    """Refuse another network, and inputs that these weights were not trained with."""
    weights = options.start.weights
    if options.start.head != "keep" and goes_on_from(options.model, description.model):
        if not source.has_projection_file:
            raise no_projection(weights)
    elif description.model != options.model:
        raise ProtegeError(
            f"weights {weights} are those of a {description.model}: set options.model="
            f"{description.model} (now {options.model})"
        )
    theirs = dict(description.inputs)
    # What goes on learning may do so in another size, but not with other colours.
    if not options.is_given:
        theirs = {"pixels": theirs["pixels"]}
    if wanted := _to_set(options, {}, theirs):
        raise ProtegeError(f"weights {weights} were trained with other inputs: set {wanted}")


def _to_set(options: TrainOptions, fields: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The options that have other values than these, each with its value and the one now."""
    theirs = {**fields, **{f"inputs.{name}": value for name, value in inputs.items()}}
    now = {name: attrgetter(name)(options) for name in theirs}
    return ", ".join(
        f"options.{name}={theirs[name]} (now {now[name]})"
        for name in theirs
        if theirs[name] != now[name]
    )
