"""Losses and scores: plain arithmetic on logits.

In: logits_BC. Out: losses and log-odds, in float32.
"""

import torch
from torch import Tensor


def soft_cross_entropy(logits_BC: Tensor, targets_BC: Tensor, label_smoothing: float) -> Tensor:
    """Mean cross-entropy against a distribution over classes, in nats.

    Label smoothing mixes the target with the uniform distribution (Szegedy et al. 2015, section 7).
    """
    num_classes = logits_BC.shape[1]
    smooth_BC = targets_BC * (1 - label_smoothing) + label_smoothing / num_classes
    log_probabilities_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return -(smooth_BC * log_probabilities_BC).sum(dim=1).mean()


def top_log_odds(logits_BC: Tensor, top_p: int) -> tuple[Tensor, Tensor]:
    """The P best classes of each image and their log-odds, best first.

    log p/(1-p) = logit minus the log-sum-exp of all other logits. It ranks as the probability of
    "Billion-scale semi-supervised learning" (Yalniz et al. 2019, section 3.2) does, but does not
    saturate: in float32, probabilities become equal to 1 from a margin of 16 on.

    Returns labels_BP (int64) and log_odds_BP (float32). Equal logits are ordered by class.
    """
    logits_BC = logits_BC.float()
    # A stable sort, unlike topk, has an order for equal logits.
    order_BC = torch.sort(logits_BC, dim=1, descending=True, stable=True).indices
    labels_BP = order_BC[:, :top_p]
    places = range(labels_BP.shape[1])
    return labels_BP, torch.stack([log_odds(logits_BC, labels_BP[:, at]) for at in places], dim=1)


def log_odds(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Log p/(1-p) of one class of each image, shape (B,), in float32."""
    logits_BC, labels_B1 = logits_BC.float(), labels_B[:, None]
    others_B = logits_BC.scatter(1, labels_B1, float("-inf")).logsumexp(dim=1)
    return logits_BC.gather(1, labels_B1)[:, 0] - others_B
