"""Given weights: whose classes and inputs they are, before anything is trained or scored with them.

In: options with a `checkpoint`, and the classes of this training. Out: `GivenWeights`, with the
classes in the order of the weights' head. A file that protege wrote says itself what it is; of any
other, somebody must say its classes, because weights with as many classes in another order would
give every image a wrong one.

    given = look_at_given(options, classes)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from infra.errors import ProtegeError
from infra.store import split_uri
from tasks.inference.weights import Description, find_description
from tasks.train.options import LABELLED, TrainOptions

LISTED_CLASSES = 5


@dataclass(frozen=True)
class GivenWeights:
    """The digest of a file of weights, and the classes of its head, in their order."""

    digest: str = ""
    classes: tuple[str, ...] = ()


def look_at_given(options: TrainOptions, classes: Sequence[str] | None) -> GivenWeights:
    """What is known of the weights that the options name; nothing without.

    The classes of the images are None before their labels have been read.
    Raises ProtegeError when they cannot be read, when they are of another network, have other
    inputs or lack a class, and when nobody says their classes.
    """
    uri = options.checkpoint
    if not uri:
        return GivenWeights()
    data = _read(uri, "checkpoint")
    description = find_description(data) if uri.lower().endswith(".safetensors") else None
    if description is None:
        known = _named_classes(options, classes)
    else:
        _check_description(uri, description, options)
        known = description.classes
    missing = [name for name in classes or () if name not in known]
    if classes and missing:
        raise ProtegeError(
            f"checkpoint {uri} does not know the class {missing[0]!r}: its classes are "
            f"{list_classes(known)}, and those of the images are {list_classes(classes)}. Name "
            "the folders as the weights name their classes, or give other weights"
        )
    return GivenWeights(hashlib.sha256(data).hexdigest(), tuple(known))


def list_classes(classes: Sequence[str]) -> str:
    """The first few classes, and how many there are."""
    more = f", ... {len(classes):,} in all" if len(classes) > LISTED_CLASSES else ""
    return ", ".join(classes[:LISTED_CLASSES]) + more


def _named_classes(options: TrainOptions, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of weights that do not name them, as the options do."""
    named = options.checkpoint_classes
    if named == LABELLED:
        return tuple(classes or ())
    if not named:
        theirs = f" ({list_classes(classes)})" if classes else ""
        raise ProtegeError(
            f"checkpoint {options.checkpoint} does not say what its classes are: set "
            "options.checkpoint_classes to a text file with the name of a class in each line, in "
            f"the order of the weights, or to {LABELLED!r} if it is that of the labelled images"
            f"{theirs}"
        )
    text = _read(named, "checkpoint_classes").decode("utf-8-sig", errors="replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ProtegeError(f"options.checkpoint_classes: {named} names {twice!r} more than once")
    return names


def _check_description(uri: str, description: Description, options: TrainOptions) -> None:
    if description.model != options.model:
        raise ProtegeError(
            f"checkpoint {uri} holds a {description.model}: set options.model="
            f"{description.model} (now {options.model})"
        )
    if description.inputs != options.inputs:
        now, theirs = dict(options.inputs), dict(description.inputs)
        wanted = ", ".join(
            f"options.inputs.{name}={theirs[name]} (now {now[name]})"
            for name in theirs
            if theirs[name] != now[name]
        )
        raise ProtegeError(f"checkpoint {uri} was trained with other inputs: set {wanted}")


def _read(uri: str, what: str) -> bytes:
    store, name = split_uri(uri)
    try:
        return store.read(name)
    except OSError as error:
        raise ProtegeError(f"{what} {uri} cannot be read: {error}") from error
