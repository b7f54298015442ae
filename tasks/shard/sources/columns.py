"""Columns: which column of a table or list is the image, and which the label.

In: the names and types of the columns, and what the options say. Out: the name of the column. What
is ambiguous or missing is an error that lists what there is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infra.errors import ProtegeError


@dataclass(frozen=True)
class Columns:
    """The columns that the options name; an empty name is guessed."""

    image: str = ""
    label: str = ""


GUESSED = Columns()


def choose_column(
    kinds: Mapping[str, str], given: str, known: Collection[str], option: str, place: str
) -> str | None:
    """The column of this name, or the only one of a known name; None without any.

    `kinds` are the types of the columns by name, `option` is what names the column. Raises
    ProtegeError when the given name is none of the columns, or several have a known name.
    """
    if given:
        if given not in kinds:
            raise ProtegeError(
                f"{place} has no column {given!r} ({option}). {describe_columns(kinds)}"
            )
        return given
    found = [name for name in kinds if name.strip().lower() in known]
    if len(found) > 1:
        raise ProtegeError(
            f"{place}: {' and '.join(map(repr, found))} may both be meant. "
            f"{describe_columns(kinds)}. Set {option}"
        )
    return found[0] if found else None


def describe_columns(kinds: Mapping[str, str]) -> str:
    """`It has the columns 'img' (binary), 'text' (string)`."""
    listed = ", ".join(f"{name!r} ({kind})" if kind else repr(name) for name, kind in kinds.items())
    noun = "column" if len(kinds) == 1 else "columns"
    return f"It has the {noun} {listed}" if kinds else "It has no columns"
