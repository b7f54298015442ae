"""Folder: a folder of files that appears whole, or not at all.

In: the folder that a person names. Out: a temporary one beside it to write into, which takes its
place when all is written. Whoever is killed before leaves the old one, and a `.tmp-` folder.

    with new_folder("student", replace=False) as (folder, final): ...
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import ProtegeError
from infra.store import Address
from infra.store.base import TEMPORARY_PREFIX

RECORD = "export.json"  # names the files of an export, itself included


@contextmanager
def new_folder(out: str | Path, *, replace: bool) -> Iterator[tuple[Path, Path]]:
    """A folder to write into, and the one that it becomes when the block ends without an error.

    Raises ProtegeError for a place on S3, for a folder with files (with `replace`: with others
    than those of an export), and when the disk refuses.
    """
    address = Address.parse(str(out))
    if address.is_s3:
        raise ProtegeError(f"{out} is on S3: export into a local folder, and copy it there")
    final = Path(address.resolved().uri)
    temporary = _beside(final)
    try:
        _check_free(final, replace=replace)
        temporary.mkdir(parents=True)
        yield temporary, final
        _sync(temporary)
        _check_free(final, replace=replace)
        _put_in_place(temporary, final)
    except OSError as error:
        raise ProtegeError(f"{final} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_free(final: Path, *, replace: bool) -> None:
    """Raise ProtegeError when there is something that an export may not replace."""
    if not final.exists():
        return
    if not final.is_dir():
        raise ProtegeError(f"{final} is a file: give a folder")
    found = {item.name for item in final.iterdir()}
    if found and not replace:
        raise ProtegeError(
            f"{final} is not empty: give another folder, or --replace, which replaces an export"
        )
    others = found - _files_of(final)
    if others:
        raise ProtegeError(
            f"{final} has files that are no export of protege, such as {min(others)}, and stays as "
            "it is: give another folder"
        )


def _files_of(folder: Path) -> set[str]:
    """The files that the record of an export names; none when there is no such record."""
    try:
        return set(json.loads((folder / RECORD).read_text())["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _put_in_place(temporary: Path, final: Path) -> None:
    """Rename the folder; an earlier one is first moved away, and back after a failure."""
    if not final.exists() or not any(final.iterdir()):
        temporary.rename(final)
        return
    before = _beside(final)
    final.rename(before)
    try:
        temporary.rename(final)
    except OSError:
        before.rename(final)
        raise
    shutil.rmtree(before)


def _beside(final: Path) -> Path:
    return final.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            # Without it a power cut can leave the final name on an empty file.
            os.fsync(file.fileno())
