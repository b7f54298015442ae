"""Losses and scores against plain definitions in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.losses import (
    distillation,
    normalise_targets,
    nt_xent,
    soft_cross_entropy,
    top_log_odds,
)

LOGITS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
    elements=st.floats(-40, 40, width=32),
)


@given(LOGITS, st.integers(1, 9))
def test_log_odds_are_those_of_the_softmax(logits: np.ndarray, top_p: int) -> None:
    labels, log_odds = top_log_odds(torch.from_numpy(logits), top_p)
    exact = logits.astype(np.float64)
    for row in range(len(logits)):
        for place in range(min(top_p, logits.shape[1])):
            label = int(labels[row, place])
            others = np.delete(exact[row], label)
            expected = exact[row, label] - np.logaddexp.reduce(others)
            assert abs(float(log_odds[row, place]) - expected) < 1e-4


@given(LOGITS)
def test_classes_come_best_first_and_equal_ones_by_number(logits: np.ndarray) -> None:
    labels, _ = top_log_odds(torch.from_numpy(logits), logits.shape[1])
    for row, order in enumerate(labels.tolist()):
        expected = sorted(range(logits.shape[1]), key=lambda c: (-logits[row, c], c))
        assert order == expected


def test_log_odds_do_not_saturate_where_probabilities_do() -> None:
    logits = torch.tensor([[30.0, 0.0], [31.0, 0.0]])
    assert len(set(torch.softmax(logits, 1)[:, 0].tolist())) == 1
    _, log_odds = top_log_odds(logits, 1)
    assert log_odds[1, 0] > log_odds[0, 0]


def test_cross_entropy_of_hard_targets_is_torchs() -> None:
    logits = torch.randn(8, 5)
    labels = torch.arange(8) % 5
    hard = torch.nn.functional.one_hot(labels, 5).float()
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert torch.allclose(soft_cross_entropy(logits, hard, smoothing), expected)


WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
    elements=st.floats(0, 10, width=32),
)


@given(WEIGHTS)
def test_weights_become_distributions_and_none_stay_none(weights: np.ndarray) -> None:
    targets = normalise_targets(torch.from_numpy(weights)).numpy()
    for row, target in zip(weights.astype(np.float64), targets, strict=True):
        if row.sum() == 0:
            assert not target.any()
        elif row.sum() > 1e-30:
            np.testing.assert_allclose(target, row / row.sum(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_distillation_is_cross_entropy_with_both_at_the_temperature(temperature: float) -> None:
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    exact = [logits.double().numpy() / temperature for logits in (student, teacher)]
    log_p, log_q = (scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True) for scaled in exact)
    expected = -(np.exp(log_q) * log_p).sum(axis=1).mean()
    assert float(distillation(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)


def straightforward_nt_xent(views_2BD: np.ndarray, temperature: float) -> float:
    """Equation 1 of SimCLR, one pair after the other."""
    views = views_2BD.reshape(-1, views_2BD.shape[2])
    views = views / np.linalg.norm(views, axis=1, keepdims=True)
    num_views, losses = len(views), []
    for i in range(num_views):
        j = (i + num_views // 2) % num_views
        terms = [np.exp(views[i] @ views[k] / temperature) for k in range(num_views) if k != i]
        losses.append(-np.log(np.exp(views[i] @ views[j] / temperature) / sum(terms)))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("num_images", [1, 5])
def test_nt_xent_is_that_of_its_formula(temperature: float, num_images: int) -> None:
    views_2BD = torch.randn(2, num_images, 4)
    expected = straightforward_nt_xent(views_2BD.double().numpy(), temperature)
    loss, _ = nt_xent(views_2BD, views_2BD, 0, temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_nt_xent_of_a_share_is_that_share_of_the_whole() -> None:
    views_2GD = torch.randn(2, 6, 4)
    shares = [nt_xent(views_2GD[:, at : at + 2], views_2GD, at, 0.1)[0] for at in (0, 2, 4)]
    whole, _ = nt_xent(views_2GD, views_2GD, 0, 0.1)
    torch.testing.assert_close(torch.stack(shares).mean(), whole)


def test_nt_xent_takes_neither_a_view_for_its_own_negative_nor_a_negative_for_a_pair() -> None:
    # Three images, whose views are alike and at right angles to all others.
    views_2BD = torch.eye(3).repeat(2, 1, 1)
    loss, nearest = nt_xent(views_2BD, views_2BD, 0, 1.0)
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 4)))
    assert float(nearest) == 1
    _, nearest = nt_xent(torch.stack([torch.eye(3), torch.eye(3).roll(1, 0)]), views_2BD, 0, 1.0)
    assert float(nearest) < 1


def test_nt_xent_is_in_float32_under_autocast() -> None:
    views_2BD = torch.randn(2, 5, 64)
    expected, _ = nt_xent(views_2BD, views_2BD, 0, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nt_xent(views_2BD, views_2BD, 0, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
