"""Options: the base of every stage's options, and lengths with a unit.

An options class is closed (unknown keys are errors), frozen, and complete (every field has a
default), so that it draws as a form in the Prefect UI. Fields named in `NOT_IN_FINGERPRINT`
can change how fast a result comes or whether a stage fails, never the result.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

CompileChoice = Literal["auto", "never", "always"]


def _title(name: str, _info: FieldInfo | Any) -> str:
    return name.replace("_", " ").capitalize()


def _with_positions(schema: dict[str, Any], model: "type[Options]") -> None:
    fields = schema.get("properties", {})
    names = [*model.FIRST, *(name for name in fields if name not in model.FIRST)]
    # PostgreSQL's JSONB orders keys by length; the form goes by this number instead.
    for position, name in enumerate(names):
        fields[name]["position"] = position


class Options(BaseModel):
    """Frozen, closed options of one stage or of a part of one."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        field_title_generator=_title,
        json_schema_extra=_with_positions,
    )
    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset()
    FIRST: ClassVar[tuple[str, ...]] = ()  # fields that stand before inherited ones in the form

    def content(self) -> dict[str, Any]:
        """The fields that can change a result, as plain JSON values."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in self.NOT_IN_FINGERPRINT:
                continue
            values[name] = value.content() if isinstance(value, Options) else value
        return values


class Length(Options):
    """How long something lasts, in the unit that the user thinks in."""

    amount: float = Field(0, ge=0)
    """How many."""
    unit: Literal["steps", "epochs", "images"] = "steps"
    """Steps are batches; epochs are passes over the data; images are counted with repeats."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`30 epochs` in a file or on the command line is the same as its two fields."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(
            r"\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:e\+?[0-9]+)?)\s+(steps|epochs|images)\s*", value
        )
        if match is None:
            raise ValueError(f"{value!r} is no length; write for example '30 epochs'")
        return {"amount": float(match[1]), "unit": match[2]}

    def images(self, *, images_per_epoch: int, batch_size: int) -> float:
        """The same length in images."""
        images = {"steps": self.amount * batch_size, "epochs": self.amount * images_per_epoch}
        return images.get(self.unit, self.amount)

    def steps(self, *, images_per_epoch: int, batch_size: int) -> int:
        """The same length in steps, rounded to the nearest; at least one unless it is nothing."""
        images = self.images(images_per_epoch=images_per_epoch, batch_size=batch_size)
        return max(1, round(images / batch_size)) if self.amount else 0

    def __str__(self) -> str:
        return f"{self.amount:,.12g} {self.unit}"


def flat_options(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of options, and of those inside them, by dotted name."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from flat_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One plain line per invalid field: its path, what is wrong, and the nearest valid name."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(step) for step in problem["loc"])
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            lines.append(f"{path}: no such option{_nearest(problem['loc'], root)}")
        elif problem["type"] == "model_type":
            lines.append(f"{path}: must be a section of options (got {_short(problem['input'])})")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = f" (got {_short(problem['input'])})" if problem["type"] != "value_error" else ""
            lines.append(f"{path}: {message}{given}" if path else message)
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest(path: tuple[int | str, ...], root: type[BaseModel]) -> str:
    model = root
    for step in path[:-1]:
        found = model.model_fields.get(str(step))
        inner = found and found.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        model = inner
    names = list(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(names)}"
