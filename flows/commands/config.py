"""Config: the options of a recipe from presets, YAML, the environment and the command line.

In: those four, later ones win. Out: the recipe's root options, or a ProtegeError with one plain
line per mistake.

    options = read_options(BillionScale, base=digits(), file="mine.yaml", sets=["topk.k=500"])

Environment: `PROTEGE_OPTION__TOPK__K=500` is `--set topk.k=500`.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from infra.errors import ProtegeError
from tasks.options import Options, problems

ENVIRONMENT = "PROTEGE_OPTION__"

OptionsType = TypeVar("OptionsType", bound=Options)


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error: the first one would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"{key} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_options(
    kind: type[OptionsType], base: OptionsType, file: Path | None, sets: Iterable[str]
) -> OptionsType:
    """The options of a recipe. Raises ProtegeError."""
    values: dict[str, Any] = base.model_dump()
    if file is not None:
        values = _merge(values, _read_yaml(file))
    return _validated(kind, values, [*_environment(), *map(_split, sets)])


def set_options(kind: type[OptionsType], base: OptionsType, sets: Iterable[str]) -> OptionsType:
    """The options of a single stage, whose fields stand alone: `--set augment.colour=1`.

    The environment is for recipes. Raises ProtegeError.
    """
    return _validated(kind, base.model_dump(), map(_split, sets))


def _validated(
    kind: type[OptionsType], values: Mapping[str, Any], changes: Iterable[tuple[list[str], str]]
) -> OptionsType:
    for steps, text in changes:
        values = _merge(values, _nested(steps, text))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ProtegeError("\n".join(problems(error, kind))) from None


def _read_yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ProtegeError(f"{file}: there is no such file") from None
    except OSError as error:
        raise ProtegeError(f"{file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ProtegeError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ProtegeError(
            f"{file} must be a mapping of sections, as in 'topk: {{k: 500}}', "
            f"but it is a {type(content).__name__}"
        )
    return content


def _environment() -> list[tuple[list[str], str]]:
    names = sorted(name for name in os.environ if name.startswith(ENVIRONMENT))
    return [
        (name.removeprefix(ENVIRONMENT).lower().split("__"), os.environ[name]) for name in names
    ]


def _split(entry: str) -> tuple[list[str], str]:
    path, equals, text = entry.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise ProtegeError(f"--set {entry}: write it as section.field=value")
    return steps, text


def _nested(path: list[str], text: str) -> dict[str, Any]:
    """`topk.k` and `500` as nested mappings; the text is read as YAML reads a value."""
    try:
        # To YAML, an asterisk in front is an alias, which means nothing in a single value.
        is_pattern = text.startswith("*")
        value: Any = yaml.load(text, _Loader) if text and not is_pattern else text
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ProtegeError(f"{'.'.join(path)}={text}: this value is not YAML: {reason}") from None
    for step in reversed(path):
        value = {step: value}
    return dict(value)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(old, value)
        elif not (isinstance(old, Mapping) and value is None):
            # A section without a line in it, all commented out perhaps, changes nothing.
            merged[key] = value
    return merged
