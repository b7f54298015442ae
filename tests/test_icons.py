"""Icons: drawings of designers become a pile full of other things, and nothing gives them away."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.demo import icons
from flows.demo.iconify import FAMILIES, Drawing, read_drawings
from flows.demo.icons import IDEAS, LABELLED, SIDE, render, split_icons, write_icons
from infra.errors import ProtegeError

DESIGNERS, OTHERS = 12, ("camera-off", "rabbit", "home-heart")
BODY = '<path fill="currentColor" d="M{number} 2h9v9H2z"/>'


def write_set(folder: Path, prefix: str, designer: str, licence: str, names: list[str]) -> None:
    (folder / "json").mkdir(parents=True, exist_ok=True)
    bodies = {name: {"body": BODY.format(number=number)} for number, name in enumerate(names)}
    found = {"prefix": prefix, "icons": bodies, "width": 24, "height": 24}
    (folder / "json" / f"{prefix}.json").write_text(json.dumps(found))
    path = folder / "collections.json"
    about = json.loads(path.read_text()) if path.exists() else {}
    about[prefix] = {"author": {"name": designer}, "license": {"spdx": licence}}
    path.write_text(json.dumps(about))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iconify")
    styles = ("", "-outline", "-bold-24")
    names = [f"{name}{style}" for name in (*IDEAS, *OTHERS) for style in styles]
    for number in range(DESIGNERS):
        write_set(folder, f"set{number}", f"designer {number}", "MIT", names)
    write_set(folder, "paid", "somebody", "CC-BY-NC-4.0", names)
    return folder


@pytest.mark.parametrize(
    ("name", "idea"),
    [
        ("camera", "camera"),
        ("camera-outline-rounded", "camera"),
        ("camera-16-filled", "camera"),
        ("camera-24px", "camera"),
        ("camera-off", "camera-off"),
        ("home-heart-duotone", "home-heart"),
    ],
)
def test_style_and_numbers_of_a_name_are_not_what_it_shows(name: str, idea: str) -> None:
    assert Drawing(f"mdi:{name}", "somebody", "MIT", "<svg/>").idea == idea


def test_sets_that_may_not_be_used_freely_are_left_out(package: Path) -> None:
    found = list(read_drawings(package))
    assert {drawing.licence for drawing in found} == {"MIT"}
    assert len(found) == DESIGNERS * 3 * (len(IDEAS) + len(OTHERS))


def test_nothing_of_a_designer_who_tests_is_learned_from(package: Path) -> None:
    splits = [split_icons(read_drawings(package), seed) for seed in (0, 1)]
    for split in splits:
        testing = {drawing.designer for drawing in split.test}
        assert len(testing) == round(icons.TEST_FAMILIES * DESIGNERS)
        learned = [*split.labelled, *split.pile]
        assert not testing & {drawing.designer for drawing in learned}
        assert len({drawing.name for drawing in learned}) == len(learned)
        counts = [sum(one.idea == idea for one in split.labelled) for idea in IDEAS]
        assert counts == LABELLED.tolist()
    assert splits[0].test == splits[1].test
    assert splits[0].labelled != splits[1].labelled


def test_designers_who_draw_the_same_are_tested_together() -> None:
    same = [Drawing("a:home", name, "MIT", "<svg/>") for name in FAMILIES[2]]
    assert len({drawing.family for drawing in same}) == 1
    assert Drawing("a:home", "somebody", "MIT", "<svg/>").family == "somebody"


def test_smaller_pile_has_every_drawing_of_the_ideas(package: Path) -> None:
    whole, small = (split_icons(read_drawings(package), 0, count) for count in (0, 900))
    known = [sum(one.idea in IDEAS for one in split.pile) for split in (whole, small)]
    assert known[0] == known[1]
    assert len(small.pile) == 900 < len(whole.pile)


def test_pile_does_not_tell_what_is_drawn_but_by_its_words(package: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_icons(read_drawings(package), data, seed=0)
    pile = pq.read_table(data / "pile")
    assert pile.column_names == ["image", "key", "tags"]
    picture = Image.open(io.BytesIO(pile["image"][0].as_py())).convert("L")
    assert picture.size == (SIDE, SIDE)
    assert {0, 255} <= set(np.asarray(picture).ravel().tolist()), "black on white"
    with (data / "pile-truth.csv").open() as file:
        truth = {row["key"].rpartition("/")[2]: row["label"] for row in csv.DictReader(file)}
    assert list(truth) == pile["key"].to_pylist()
    shown = [truth[key] in IDEAS for key in pile["key"].to_pylist()]
    first, second = np.array_split(np.array(shown), 2)
    assert abs(first.mean() - second.mean()) < 0.1
    assert all(
        truth[key].split("-")[0] in words
        for key, words in zip(pile["key"].to_pylist(), pile["tags"].to_pylist(), strict=True)
    )
    with (data / "names.csv").open() as file:
        names = list(csv.DictReader(file))
    assert {row["licence"] for row in names} == {"MIT"}
    assert len(names) == len(pile) + LABELLED.sum() + len(pq.read_table(data / "test"))


def test_package_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match="is no @iconify/json"):
        list(read_drawings(tmp_path))


def test_idea_with_too_few_drawings_is_named(package: Path) -> None:
    few = [drawing for drawing in read_drawings(package) if drawing.idea != "camera"]
    with pytest.raises(ProtegeError, match="of the idea 'camera' there are 0 drawings"):
        split_icons(few, 0)


def test_drawing_with_colours_of_its_own_keeps_them() -> None:
    path = '<path fill="red" d="M0 0h2v2H0z"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2">{path}</svg>'
    picture = Image.open(io.BytesIO(render(svg))).convert("RGB")
    assert picture.getpixel((30, 30)) == (255, 0, 0)
