"""Our networks answer what others' answer: torchvision's, timm's, and the original SimCLRv2's.

With the same weights, under the keys of the other, and the same images.
"""

import json
from typing import Any

import pytest
import torch

from models.registry import build
from models.state_dicts import load_published
from tests.builders.named_weights import named_images, named_weights
from tests.fixtures import networks, simclr

ANSWERS = [
    answer
    for path in (networks.PATH, simclr.PATH)
    for answer in json.loads(path.read_text())["answers"]
]


def id_of(answer: dict[str, Any]) -> str:
    return f"{answer['name']} of {answer['package']}"


@pytest.mark.parametrize("answer", ANSWERS, ids=id_of)
def test_logits_are_those_of_the_reference(answer: dict[str, Any]) -> None:
    network = build(answer["name"], networks.NUM_CLASSES).eval()
    keys = {key: torch.empty(shape) for key, shape in answer.get("keys", {}).items()}
    load_published(network, named_weights(keys or network.state_dict(), answer["gain"]))
    with torch.inference_mode():
        logits_BC = network(named_images(*answer["shape"]))
    expected_BC = torch.tensor(answer["logits"])
    # The images must matter, or a network that ignores them would pass.
    assert (expected_BC[0] - expected_BC[-1]).abs().max() > 0.01 * expected_BC.abs().max()
    tolerance = 1e-5 * float(expected_BC.abs().max())
    torch.testing.assert_close(logits_BC, expected_BC, rtol=0, atol=tolerance)


def test_fixture_has_every_reference() -> None:
    names = [reference.name for reference in networks.REFERENCES]
    assert [answer["name"] for answer in ANSWERS] == [
        *names,
        *(reference[0] for reference in simclr.REFERENCES),
    ]
