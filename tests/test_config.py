"""Options from YAML, the environment and the command line: later wins, mistakes are explained."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from flows.commands.config import read_options
from infra.errors import ProtegeError
from tasks.options import Length, Options, problems


class Inner(Options):
    """A stage."""

    count: int = Field(5, ge=1, le=100)
    """How many."""
    rate: float = Field(0.1, ge=0, le=1)
    """How fast."""
    name: str = ""
    """What it is called."""
    length: Length = Length(amount=3, unit="epochs")
    """How long."""
    spare: Length | None = None
    """How long, perhaps."""


class Recipe(Options):
    """A recipe."""

    first: Inner = Inner()
    """The first stage."""
    second: Inner = Inner(count=7)
    """The second stage."""


def read(tmp_path: Path, text: str | bytes | None = None, *sets: str) -> Recipe:
    file = None
    if text is not None:
        file = tmp_path / "mine.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_options(Recipe, Recipe(), file, sets)


def problem_lines(tmp_path: Path, text: str | bytes | None = None, *sets: str) -> list[str]:
    with pytest.raises(ProtegeError) as caught:
        read(tmp_path, text, *sets)
    lines = str(caught.value).splitlines()
    assert all(len(line) < 300 for line in lines)
    return lines


def test_later_sources_win__file_environment_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTEGE_OPTION__FIRST__COUNT", "11")
    monkeypatch.setenv("PROTEGE_OPTION__FIRST__NAME", "env")
    options = read(tmp_path, "first: {count: 10, rate: 0.5, name: file}", "first.name=set")
    assert (options.first.count, options.first.rate, options.first.name) == (11, 0.5, "set")
    assert options.second == Inner(count=7)


def test_pattern_of_names_is_text__and_no_alias_of_yaml(tmp_path: Path) -> None:
    assert read(tmp_path, None, "first.name=*.gif,tmp/*").first.name == "*.gif,tmp/*"


def test_nothing_given_is_the_base(tmp_path: Path) -> None:
    for text in (None, "", "# nothing\n", "first:\n  # count: 3\n", "{}"):
        assert read(tmp_path, text) == Recipe()


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "5", "[1, 2]", "true"])
def test_yaml_that_is_no_mapping__says_what_it_is(tmp_path: Path, text: str) -> None:
    (line,) = problem_lines(tmp_path, text)
    assert "must be a mapping of sections" in line
    assert "mine.yaml" in line


@pytest.mark.parametrize(
    "text", ["a: [1", "a:\t- [", "a: b: c", b"a: \xff\xfe", "a: 2020-13-45", "%x", "!!python/x {}"]
)
def test_what_is_no_yaml__is_one_line(tmp_path: Path, text: str | bytes) -> None:
    (line,) = problem_lines(tmp_path, text)
    assert "mine.yaml is not YAML" in line


def test_key_given_twice_is_an_error__not_a_silent_loss(tmp_path: Path) -> None:
    (line,) = problem_lines(tmp_path, "first: {count: 3}\nfirst: {rate: 0.2}\n")
    assert "first is given twice" in line


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    for place, expected in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(ProtegeError, match=expected):
            read_options(Recipe, Recipe(), place, [])


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ("first.cuont=3", "first.cuont: no such option; did you mean 'count'?"),
        ("frist.count=3", "frist: no such option; did you mean 'first'?"),
        ("first.length.amuont=3", "first.length.amuont: no such option; did you mean 'amount'?"),
        ("first.zzz=3", "first.zzz: no such option; there are: count, rate, name, length, spare"),
        ("first.spare.zzz=3", "first.spare.zzz: no such option"),
        ("first.count=0", "first.count: Input should be greater than or equal to 1 (got 0)"),
        ("first.count=101", "first.count: Input should be less than or equal to 100 (got 101)"),
        ("first.rate=.nan", "first.rate: Input should be a finite number (got nan)"),
        ("first.length={amount: .inf}", "first.length.amount: Input should be a finite number"),
        ("first.length=1.2.3 epochs", "first.length: '1.2.3 epochs' is no length; write for"),
        ("first.length=3 weeks", "first.length: '3 weeks' is no length; write for example"),
        ("first=5", "first: must be a section of options (got 5)"),
        ("first.count.more=5", "first.count: Input should be a valid integer"),
        ("first.count=[1", "first.count=[1: this value is not YAML"),
        ("first.count", "--set first.count: write it as section.field=value"),
        ("=5", "--set =5: write it as section.field=value"),
        ("first..count=5", "--set first..count=5: write it as section.field=value"),
        (f"first.count={'x' * 5000}", "first.count: Input should be a valid integer"),
    ],
)
def test_every_mistake_is_one_line_with_its_place(tmp_path: Path, sets: str, expected: str) -> None:
    (line,) = problem_lines(tmp_path, None, sets)
    assert line.startswith(expected)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    lines = problem_lines(tmp_path, "first: {cuont: 3, rate: 7}\nsecond: {count: many}\n1: 2\n")
    assert len(lines) == 4


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["first", "count", "length", "amount", "spare", "unit", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_value_gives_options_or_lines(value: Any) -> None:
    try:
        Recipe.model_validate({"first": value})
    except ValidationError as error:
        lines = problems(error, Recipe)
        assert lines
        assert not any("\n" in line for line in lines)


@settings(max_examples=50)
@given(st.floats(0, 1e9), st.sampled_from(["steps", "epochs", "images"]))
def test_length_from_text_and_from_fields_is_the_same(amount: float, unit: str) -> None:
    length = Length.model_validate({"amount": amount, "unit": unit})
    if amount == 0 or amount > 1e-3:
        assert Length.model_validate(f"{amount} {unit}") == length
    steps = length.steps(images_per_epoch=1000, batch_size=10)
    assert (steps >= 1) == (amount > 0)


def test_content_leaves_out_what_only_changes_speed() -> None:
    class Fast(Options):
        """Two fields."""

        NOT_IN_FINGERPRINT = frozenset({"workers"})
        workers: int = 1
        """Speed."""
        k: int = 2
        """Result."""

    assert Fast().content() == {"k": 2}
    assert Recipe().content()["second"]["count"] == 7


def test_form_lists_fields_in_order() -> None:
    fields = Inner.model_json_schema()["properties"]
    assert [fields[name]["position"] for name in Inner.model_fields] == list(range(5))
    assert fields["count"]["description"] == "How many."
