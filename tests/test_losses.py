"""Losses and scores against plain definitions in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.losses import soft_cross_entropy, top_log_odds

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
