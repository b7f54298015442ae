"""Fit: weights that a training would refuse are refused before any image is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.campaign.check import check
from flows.campaign.survey import Sources
from flows.recipes import BILLION_SCALE
from infra.errors import ProtegeError
from models.registry import build
from tasks.images import Inputs
from tasks.inference.weights import Description, save_weights
from tasks.options import Length
from tasks.train.options import Start
from tests.builders.campaign import tiny

INPUTS = Inputs(size=16, resize=16, pixels="unit")
THEIRS = ("blue", "green", "red")


def published(path: Path, num_classes: int = 3, model: str = "small_resnet_8") -> None:
    torch.save({"state_dict": build(model, num_classes).state_dict()}, path)


def described(path: Path, **changes: Any) -> None:
    values = {"model": "small_resnet_8", "classes": THEIRS, "inputs": INPUTS, **changes}
    network = build(values["model"], len(values["classes"]))
    path.write_bytes(save_weights(network, Description(**values)))


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "other network": (
        "w.pth",
        lambda path: published(path, model="small_resnet_16"),
        "teacher: weights .* do not fit the model: .*choose the model",
    ),
    "other number of classes": (
        "w.pth",
        lambda path: published(path, 7),
        "another number of classes than 3",
    ),
    "no weights": (
        "w.pth",
        lambda path: path.write_text("<html>"),
        "no file of weights",
    ),
    "other classes": (
        "w.safetensors",
        lambda path: described(path, classes=("ant", "bee", "cat")),
        "do not know the class 'blue'",
    ),
    "another network of ours": (
        "w.safetensors",
        lambda path: described(path, model="small_resnet_16"),
        "set teacher.model=small_resnet_16",
    ),
}


def given(pictures: Path, path: Path, **changes: Any) -> Any:
    start = Start(weights=str(path), classes="labelled")
    teacher = {"start": start, "model": "small_resnet_8", "length": Length()}
    return tiny(pictures, teacher=teacher, **changes)


@pytest.mark.parametrize("what", REFUSED)
def test_weights_that_do_not_fit_are_refused_before_work(
    pictures: Path, tmp_path: Path, what: str
) -> None:
    name, write, sentence = REFUSED[what]
    write(tmp_path / name)
    with pytest.raises(ProtegeError, match=sentence):
        check(BILLION_SCALE, Sources(given(pictures, tmp_path / name)))


def test_weights_of_unnamed_classes_are_refused_before_work(pictures: Path, tmp_path: Path) -> None:
    published(tmp_path / "w.pth")
    options = tiny(pictures, teacher={"start": Start(weights=str(tmp_path / "w.pth"))})
    with pytest.raises(ProtegeError, match=r"or teacher\.start\.classes to a text file"):
        check(BILLION_SCALE, Sources(options))


def test_weights_are_looked_at_also_where_the_classes_are_not_known_yet(
    pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").write_bytes(b"\0" * 10_240)
    labelled = {"source": str(tmp_path / "tars")}
    published(tmp_path / "other.pth", model="small_resnet_16")
    with pytest.raises(ProtegeError, match="choose the model that these weights were saved from"):
        check(BILLION_SCALE, Sources(given(pictures, tmp_path / "other.pth", labelled=labelled)))
    published(tmp_path / "fits.pth", 7)
    check(BILLION_SCALE, Sources(given(pictures, tmp_path / "fits.pth", labelled=labelled)))
    described(tmp_path / "w.safetensors")
    check(BILLION_SCALE, Sources(given(pictures, tmp_path / "w.safetensors", labelled=labelled)))
