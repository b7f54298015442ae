"""Fields: what a form shows, read from the page, beside what the options say it should show."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from playwright.sync_api import Page
from pydantic.fields import FieldInfo

from tasks.options import Options

READ = """() => [...document.querySelectorAll("main fieldset")].map(box => {
  const head = one => one.parentElement.querySelector(":scope > div");
  const title = one => head(one).querySelector("label").textContent.replace(" (Optional)", "");
  const path = [];
  for (let one = box; one; one = one.parentElement.closest("fieldset")) path.unshift(title(one));
  const help = head(box).querySelector("p")?.textContent ?? "";
  const number = box.querySelector(":scope > input[type=number]");
  const text = box.querySelector(":scope > textarea");
  const button = box.querySelector(":scope > button[role=switch]");
  const menu = box.querySelector("button[aria-haspopup=listbox]");
  const field = {path, help, kind: "unknown", value: null, low: "", high: ""};
  if (box.querySelector(":scope > [data-slot=card]")) field.kind = "section";
  else if (number) Object.assign(field, {kind: "number", value: Number(number.value),
                                         low: number.min, high: number.max});
  else if (text) Object.assign(field, {kind: "text", value: text.value});
  else if (button) Object.assign(field, {kind: "switch", value: button.ariaChecked === "true"});
  else if (menu) Object.assign(field, {kind: "menu", value: menu.textContent});
  return field;
})"""


@dataclass(frozen=True)
class Field:
    """A field of a form."""

    path: tuple[str, ...]
    help: str
    kind: str
    value: Any = None
    low: float | None = None
    high: float | None = None


def shown(page: Page) -> list[Field]:
    """The fields of the form on a page, in their order."""
    return [
        Field(
            tuple(one["path"]),
            one["help"],
            one["kind"],
            one["value"],
            float(one["low"]) if one["low"] else None,
            float(one["high"]) if one["high"] else None,
        )
        for one in page.evaluate(READ)
    ]


def expected(options: Options, path: tuple[str, ...] = ()) -> Iterator[Field]:
    """The fields of these options, in the order in which they are written down."""
    kind = type(options)
    names = [*kind.FIRST, *(name for name in kind.model_fields if name not in kind.FIRST)]
    for name in names:
        # A section is called by its name, which is a parameter's; a field by its title.
        title = name.replace("_", " ").capitalize() if path else name
        value = getattr(options, name)
        yield _field((*path, title), kind.model_fields[name], value)
        if isinstance(value, Options):
            yield from expected(value, (*path, title))


def _field(path: tuple[str, ...], info: FieldInfo, value: Any) -> Field:
    about = info.description or ""
    if isinstance(value, Options):
        return Field(path, about, "section")
    if get_origin(info.annotation) is Literal:
        return Field(path, about, "menu", value)
    if isinstance(value, bool):
        return Field(path, about, "switch", value)
    if isinstance(value, str):
        return Field(path, about, "text", value)
    low = next((float(str(one.ge)) for one in info.metadata if isinstance(one, Ge)), None)
    high = next((float(str(one.le)) for one in info.metadata if isinstance(one, Le)), None)
    return Field(path, about, "number", value, low, high)


def choices(options: type[Options], name: str) -> list[str]:
    """What a menu offers."""
    return list(get_args(options.model_fields[name].annotation))
