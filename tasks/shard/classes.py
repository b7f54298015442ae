"""Classes: the names of the classes of a labelled source, and whether they are sound.

In: `images` outputs. Out: the names in their order: as
numbers where all are integers, as text otherwise. A class is known by its name; names that people
cannot tell apart are warned of.

    classes = class_names(labelled, test)
"""

import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output
from tasks.shard.options import ShardOptions
from tasks.shard.pins import pinned_labels

logger = logging.getLogger(__name__)

INTEGER = re.compile(r"-?\d+")
SHOWN = 5
# Letters of Greek and Cyrillic that look like Latin ones.
LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u043a\u043c\u0442\u03b1\u03bf\u03bd\u03c1\u03b9\u03ba",
    "aeopcyxijsdqkmtaovpik",
)


def class_names(labelled: Output, test: Output | None = None) -> list[str]:
    """The names of the classes in their order, after a check of whether the sources are sound.

    Raises ProtegeError when an image has no class, a class has no usable image, there are fewer
    than two, or the test images have one that no labelled image has.
    """
    names = _usable_classes(labelled, "labelled")
    unknown = _usable_classes(test, "test") if test else set()
    return _check(names, unknown, ShardOptions.model_validate(labelled.options))


def sort_classes(names: Iterable[str]) -> list[str]:
    """Integers in the order of numbers, so that a list of 1,000 classes is the one of others."""
    names = list(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """The names that differ in case, spaces, accents' form or look-alike letters only."""
    groups: dict[str, list[str]] = {}
    for name in sort_classes(names):
        groups.setdefault(_look(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _look(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().translate(LOOK_ALIKE)
    visible = (
        letter for letter in text if unicodedata.category(letter) != "Cf" and letter not in " _-\t"
    )
    look = "".join(visible)
    return str(int(look)) if INTEGER.fullmatch(look) else look


def _check(names: set[str], tested: Collection[str], options: ShardOptions) -> list[str]:
    if len(names) < 2:
        only = f" Only {min(names)!r} was found." if names else ""
        raise ProtegeError(
            f"the labelled images have {len(names)} classes; at least 2 are needed.{only} Where "
            f"folders tell the class, it is the one of level {options.class_level or 1} below "
            f"{options.source} (options.class_level)"
        )
    if unknown := sort_classes(set(tested) - names):
        raise ProtegeError(
            f"the test images have classes without a labelled image: {_some(unknown)}. Label some "
            f"of each{_wider(options)}, or take these classes out of the test set. The labelled "
            f"classes are {_some(sort_classes(names))}{_hint({*names, *unknown})}"
        )
    for group in look_alikes(names):
        logger.warning(
            "classes that look alike are different classes: %s", ", ".join(map(repr, group))
        )
    return sort_classes(names)


def _hint(names: set[str]) -> str:
    groups = look_alikes(names)
    return f" (look alike: {', '.join(map(repr, groups[0]))})" if groups else ""


def _wider(options: ShardOptions) -> str:
    """What else helps when only a slice of a source was taken."""
    return "" if options.slice.is_whole else f", take more of them than {options.slice}"


def _usable_classes(images: Output, role: str) -> set[str]:
    labels = contract.read_rows(images, tables.IMAGES, ["label"])["label"].to_pylist()
    if None in labels:
        raise ProtegeError(
            f"{labels.count(None)} {role} images have no class: put every image into a folder "
            f"named after its class, or give a list with a column 'label' ({_unlabelled(images)})"
        )
    names = set(labels)
    increments = images.body["extra"]["increments"]
    lost = pinned_labels(images.store, increments) - names
    if lost and (lost := lost & _labels_now(images)):
        raise ProtegeError(
            f"class {sorted(lost)[0]!r} has no usable {role} image: all were rejected; "
            f"`protege show {images.uri}` says why"
        )
    return names


def _labels_now(images: Output) -> set[str]:
    """The classes that the source still has: whoever takes one out has mended it."""
    files = ShardOptions.model_validate(images.options).list_files()
    return {file.label for file in files if file.label is not None}


def _unlabelled(images: Output) -> str:
    rows = contract.read_rows(images, tables.IMAGES, ["key", "label"]).to_pylist()
    return _some([row["key"] for row in rows if row["label"] is None])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
