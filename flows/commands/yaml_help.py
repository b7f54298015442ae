"""YAML help: all options as YAML, each with its sentence of help and its bounds as a comment.

In: the options of a recipe. Out: text that `--config` reads.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

INDENT = "  "
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def options_yaml(options: BaseModel) -> str:
    """The text."""
    return "\n".join(_lines(options, 0)) + "\n"


def _lines(options: BaseModel, depth: int) -> Iterator[str]:
    space = INDENT * depth
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        help_text = " ".join((field.description or "").split())
        if depth == 0:
            yield ""
        if help_text or _bounds(field):
            yield f"{space}# {' '.join(filter(None, (help_text, _bounds(field))))}"
        if isinstance(value, BaseModel):
            yield f"{space}{name}:"
            yield from _lines(value, depth + 1)
        else:
            yield f"{space}{name}: {_scalar(value)}"


def _bounds(field: FieldInfo) -> str:
    """`[0 to 1]`, `[one of: a, b]`; empty where any value will do."""
    if get_origin(field.annotation) is Literal:
        return f"[one of: {', '.join(map(str, get_args(field.annotation)))}]"
    limits = [
        f"{sign} {_number(getattr(entry, kind))}"
        for entry in field.metadata
        for kind, sign in SIGNS.items()
        if getattr(entry, kind, None) is not None
    ]
    return f"[{' and '.join(limits)}]" if limits else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _scalar(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
