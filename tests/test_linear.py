"""Linear: a head on frozen features is the best one there is, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.train.data import Targets
from tasks.train.start.linear import fit_head


def labels_as_targets(labels: list[int]) -> Targets:
    rows = np.arange(len(labels), dtype=np.int64)
    return Targets(rows, np.array(labels, np.int64), np.ones(len(labels), np.float32))


def clusters(seed: int, per_class: int, classes: int = 3, width: int = 8) -> tuple[Tensor, Targets]:
    """Features that differ by class, of very unequal scale, one of them constant."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    labels = [label for label in range(classes) for _ in range(per_class)]
    features = centres[labels] + torch.randn(len(labels), width, generator=generator)
    features = features * torch.logspace(-3, 3, width) + 5
    features[:, 0] = 7
    return features, labels_as_targets(labels)


def test_head_tells_clusters_apart_whatever_the_scale_of_features() -> None:
    fit = fit_head(*clusters(0, per_class=20), num_classes=3)
    head = torch.nn.Linear(8, 3)
    fit.apply(head)
    features_ND, targets = clusters(1, per_class=50)
    correct_N = head(features_ND).argmax(dim=1).numpy() == targets.classes_P
    assert correct_N.mean() > 0.95
    assert fit.accuracy is not None
    assert fit.accuracy > 0.9


def test_head_is_where_the_penalised_loss_has_no_slope() -> None:
    features_ND, targets = clusters(0, per_class=10)
    fit = fit_head(features_ND, targets, num_classes=3)
    std_D = features_ND.std(dim=0, correction=0)
    scaled_CD = (fit.weight_CD * std_D).double().requires_grad_()
    bias_C = fit.bias_C.double().requires_grad_()
    logits_NC = (features_ND / std_D.clamp_min(1e-9)).double() @ scaled_CD.T + bias_C
    loss = torch.nn.functional.cross_entropy(logits_NC, torch.from_numpy(targets.classes_P))
    (loss + fit.penalty / 2 * scaled_CD.square().sum()).backward()
    assert scaled_CD.grad is not None
    # The constant feature has no weight, and its column of slopes is that of the biases.
    assert scaled_CD.grad[:, 1:].abs().max() < 1e-3
    assert fit.loss == pytest.approx(float(loss.detach()), abs=1e-4)


def test_soft_targets_are_learned_as_they_are() -> None:
    features_ND = torch.tensor([[0.0], [1.0]]).repeat(30, 1)
    rows = np.repeat(np.arange(60), 2)
    weights = np.tile(np.array([0.9, 0.1, 0.3, 0.7], np.float32), 30)
    targets = Targets(rows, np.tile([0, 1], 60), weights)
    fit = fit_head(features_ND, targets, num_classes=2)
    head = torch.nn.Linear(1, 2)
    fit.apply(head)
    learned = torch.softmax(head(torch.tensor([[0.0], [1.0]])), dim=1)[:, 0]
    torch.testing.assert_close(learned, torch.tensor([0.9, 0.3]), rtol=0, atol=0.05)


@pytest.mark.parametrize("per_class", [1, 2])
def test_a_single_image_of_each_class_is_enough(per_class: int) -> None:
    fit = fit_head(*clusters(0, per_class), num_classes=3)
    assert (fit.accuracy is None) == (per_class == 1)
    assert torch.isfinite(fit.weight_CD).all()
