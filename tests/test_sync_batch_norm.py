"""Batch norm and a contrastive loss over the whole batch: two processes compute what one does."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from infra.launch import launch
from models.registry import build
from models.sync_batch_norm import SyncBatchNorm, sync_batch_norms
from tests.builders.whole_batch import NUM_IMAGES, make_network, make_views, whole_batch_step


def test_two_processes_give_the_loss_the_gradients_and_the_statistics_of_one(
    tmp_path: Path,
) -> None:
    alone = whole_batch_step(0, 1)
    lines = list(launch("tests.builders.whole_batch", tmp_path / "job", 2, threads=1))
    assert sorted(line["rank"] for line in lines) == [0, 1]
    for line in lines:
        assert line["step"] == pytest.approx(alone["step"], abs=1e-12)
        assert line["buffers"] == pytest.approx(alone["buffers"], abs=1e-12)
    # The check can fail: a half of the batch has another loss.
    network, views = make_network(), make_views()
    half = network(views[:, : NUM_IMAGES // 2].flatten(0, 1))
    whole = network(views.flatten(0, 1)).view(2, NUM_IMAGES, -1)[:, : NUM_IMAGES // 2]
    assert not torch.allclose(half.view(whole.shape), whole, atol=1e-2)


@pytest.mark.parametrize("shape", [(16, 4), (6, 4, 5, 5)])
def test_alone_it_is_torchs_batch_norm(shape: tuple[int, ...]) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    torch.manual_seed(0)
    plain = kind(4)
    nn.init.constant_(plain.weight, 1.5)
    nn.init.constant_(plain.bias, -0.5)
    synced = nn.Sequential(copy.deepcopy(plain))
    sync_batch_norms(synced)
    assert isinstance(synced[0], SyncBatchNorm)
    x = torch.randn(shape) * 3 + 2
    gradients = []
    for network in (plain, synced[0]):
        inputs = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((network(inputs) ** 3).sum(), inputs)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)
    buffers, theirs = synced[0].state_dict(), plain.state_dict()
    torch.testing.assert_close(buffers, theirs, rtol=1e-5, atol=1e-6)
    assert torch.allclose(plain.eval()(x), synced.eval()(x), atol=1e-5)


def test_weights_and_names_stay_the_same() -> None:
    network = build("resnet18", 3)
    before = dict(network.state_dict(keep_vars=True))
    sync_batch_norms(network)
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert not any(type(module) is nn.BatchNorm2d for module in network.modules())


def test_norm_that_does_more_is_refused() -> None:
    class NormAndActivation(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="NormAndActivation cannot be taken over all processes"):
        sync_batch_norms(nn.Sequential(NormAndActivation(3)))
