"""export for timm and the hub: read back by both libraries, with our labels and our pixels."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import protege as pg
from infra.errors import ProtegeError
from infra.store import Store
from tasks.export import export
from tasks.export.formats.timm_folder import crop_share, timm_name
from tasks.images import Inputs
from tasks.inference.model import Model, load_model, open_model
from tasks.inference.weights import Description
from tests.builders.exported import close, images_of, logits_of
from tests.builders.models import CLASSES, model


@pytest.fixture
def small(root: Store) -> Model:
    """A network without a place in timm."""
    return load_model(model(root))


@pytest.fixture
def resnet(root: Store) -> Model:
    """One that timm has, too."""
    return load_model(model(root, "resnet18"))


@pytest.fixture(scope="module")
def timm() -> Any:
    """The package, where it is installed with its torchvision."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported: {error}")
    return timm


def test_timm_folder_describes_the_model_and_opens_here_too(resnet: Model, tmp_path: Path) -> None:
    pg.export(resnet, tmp_path / "out", format="timm")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == "resnet18"
    assert config["label_names"] == list(CLASSES)
    assert config["pretrained_cfg"]["classifier"] == "fc"
    assert config["pretrained_cfg"]["first_conv"] == "conv1"
    again = open_model(str(tmp_path / "out" / "model.safetensors"))
    assert again.description == resnet.description
    images_BCHW = images_of(resnet, 2)
    assert torch.equal(logits_of(again, images_BCHW), logits_of(resnet, images_BCHW))


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("resnet18", Inputs(size=48, resize=55, pixels="centred")),
        ("resnext50_32x4d", Inputs(size=64, resize=73)),
        ("efficientnet_b0", Inputs(size=65, resize=74)),
        ("efficientnet_lite0", Inputs(size=64, resize=73, pixels="centred")),
        ("vit_small_patch16", Inputs(size=224, resize=248, pixels="centred")),
        ("vit_small_patch16", Inputs(size=96, resize=110, pixels="centred")),
    ],
)
def test_timm_reads_the_folder_and_prepares_images_alike(
    timm: Any, name: str, inputs: Inputs, root: Store, tmp_path: Path
) -> None:
    found = load_model(model(root, name))
    other = Model(found.network, Description(name, CLASSES, inputs), found.device)
    exported = export(other, tmp_path / "out", "timm")
    assert exported.check is not None
    assert "timm" in exported.check.reader
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images_BCHW = images_of(other, 3)
    assert close(theirs(images_BCHW).detach(), logits_of(other, images_BCHW))
    config = timm.data.resolve_model_data_config(theirs)
    shorter, crop, _, scale = timm.data.create_transform(**config, is_training=False).transforms
    assert (shorter.size, tuple(crop.size)) == (inputs.resize, (inputs.size, inputs.size))
    assert scale.mean.tolist() == pytest.approx(inputs.mean)
    assert config["interpolation"] == "bilinear"


def test_networks_with_a_name_in_timm_have_its_keys(timm: Any) -> None:
    from models.registry import NETWORKS, build

    named = {name: timm_name(name) for name in NETWORKS if timm_name(name)}
    assert len(named) >= 10
    for name, theirs in named.items():
        with torch.device("meta"):
            own = build(name, 7).state_dict()
            other = timm.create_model(theirs, num_classes=7).state_dict()
        assert {key: value.shape for key, value in own.items()} == {
            key: value.shape for key, value in other.items()
        }, name


@pytest.mark.parametrize("format_name", ["timm", "hf"])
def test_network_that_timm_does_not_have_is_refused(
    small: Model, format_name: str, tmp_path: Path
) -> None:
    with pytest.raises(
        ProtegeError, match=r"timm has no network small_resnet_8, .* onnx or torch-"
    ):
        export(small, tmp_path / "out", format_name)
    assert not (tmp_path / "out").exists()
    assert timm_name("timm/vit_tiny_patch16_224.augreg_in21k") == "vit_tiny_patch16_224"
    assert timm_name("timm/vit_tiny_patch16_224+projection") is None


@settings(max_examples=50)
@given(size=st.integers(8, 2048), more=st.integers(0, 2048))
def test_timm_scales_to_exactly_our_size(size: int, more: int) -> None:
    assert math.floor(size / crop_share(size, size + more)) == size + more


def test_hub_folder_has_labels_and_a_card(resnet: Model, tmp_path: Path) -> None:
    export(resnet, tmp_path / "out", "hf")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {int(label): name for label, name in config["id2label"].items()} == dict(
        enumerate(CLASSES)
    )
    assert config["label2id"] == {name: label for label, name in enumerate(CLASSES)}
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "timm"
    assert "model-index" not in yaml.safe_load(front)
    assert "LICENCE: to-be-chosen" in text


def test_transformers_reads_the_hub_folder(timm: Any, resnet: Model, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    export(resnet, tmp_path / "out", "hf")
    found = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    images_BCHW = images_of(resnet, 3)
    assert close(found(images_BCHW).logits.detach(), logits_of(resnet, images_BCHW))
    assert found.config.id2label == dict(enumerate(CLASSES))
