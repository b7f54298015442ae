"""Class folders: whether the folders of a labelled source tell its classes, and which do.

In: the files of a source, before anything is read. A class is the folder just below the source, as
it is for most tools; whatever could mean something else is an error that names the folders.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard.sources.files import SourceFile
from tasks.shard.sources.labels import folders_of
from tasks.shard.sources.names import is_image_name
from tasks.shard.sources.reading import Reading

SPLITS = re.compile(
    r"(train|training|val|valid|validation|test|testing|dev|eval|holdout|unlabell?ed)[-_ ]?\d*",
    re.IGNORECASE,
)
SHOWN = 5


def check_class_folders(store: Store, files: Sequence[SourceFile], reading: Reading) -> None:
    """Raise ProtegeError for images in no class, and for folders that may be no classes."""
    loose = [file for file in files if not file.is_container]
    strays = [file.key for file in loose if file.label is None]
    if strays:
        raise ProtegeError(
            f"{store.uri}: {len(strays):,} labelled images have no class ({_some(strays)}): put "
            "every image into a folder named after its class, or give a list with a column "
            f"'label'. The folder of a class has level {reading.folder_level} (options.class_level)"
        )
    if not reading.class_level:
        _check_splits(store, loose)


def _check_splits(store: Store, files: Sequence[SourceFile]) -> None:
    """The same names below several top folders are classes below splits, or may be.

    One name alone that stands below every class (`<class>/images/x.png`) is none.
    """
    below: dict[str, set[str]] = {}
    for file in files:
        if len(folders := folders_of(file.key)) > 1:
            below.setdefault(folders[1], set()).add(folders[0])
    shared = {name: sorted(tops) for name, tops in below.items() if len(tops) > 1}
    splits = sorted({top for file in files if SPLITS.fullmatch(top := folders_of(file.key)[0])})
    if below and len(splits) > 1:
        found = f"{_some(splits)} look like parts of a data set, and not like classes"
    elif shared and len(below) > 1:
        name = min(shared)
        found = f"one class name stands under several folders: {name!r} under {_some(shared[name])}"
    else:
        return
    raise ProtegeError(
        f"{store.uri}: {found}. Give one of these folders as the source, or set "
        "options.class_level to 1 when they are the classes, and to 2 when the folders in them are"
    )


def check_filled(store: Store, files: Sequence[SourceFile]) -> None:
    """A local folder without images is a class that somebody forgot; S3 has no empty folders."""
    folder = Path(store.uri)
    if not folder.is_dir():
        return
    filled = {folders[0] for file in files if (folders := folders_of(file.key))}
    for item in sorted(folder.iterdir()):
        if item.is_dir() and is_image_name(item.name) and item.name not in filled:
            raise ProtegeError(
                f"class {item.name!r} has no image: there is none in {item}. Put images into it, "
                "or remove the folder"
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
