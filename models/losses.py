"""Losses and scores: plain arithmetic on logits.

In: logits_BC. Out: losses and log-odds, in float32.
"""

import torch
from torch import Tensor


def soft_cross_entropy(logits_BC: Tensor, targets_BC: Tensor, label_smoothing: float) -> Tensor:
    """Mean cross-entropy against a distribution over classes, in nats.

    Label smoothing mixes the target with the uniform distribution ("Rethinking the Inception
    architecture", Szegedy et al. 2015, section 7).
    """
    num_classes = logits_BC.shape[1]
    smooth_BC = targets_BC * (1 - label_smoothing) + label_smoothing / num_classes
    log_probabilities_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return -(smooth_BC * log_probabilities_BC).sum(dim=1).mean()


def top_log_odds(logits_BC: Tensor, top_p: int) -> tuple[Tensor, Tensor]:
    """The P best classes of each image and their log-odds, best first.

    Log-odds, log p/(1-p), rank as the probability p does, by which "Billion-scale semi-supervised
    learning" (Yalniz et al. 2019, section 3.2) ranks, but they do not saturate: in float32, p is 1
    from a margin of 16 on.

    Returns labels_BP (int64) and log_odds_BP (float32). Equal logits are ordered by class.
    """
    logits_BC = logits_BC.float()
    # Unlike topk, a stable sort orders equal logits.
    order_BC = torch.sort(logits_BC, dim=1, descending=True, stable=True).indices
    labels_BP = order_BC[:, :top_p]
    log_odds_PB = [log_odds(logits_BC, labels_B) for labels_B in labels_BP.unbind(dim=1)]
    return labels_BP, torch.stack(log_odds_PB, dim=1)


def log_odds(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Log p/(1-p) of one class of each image, shape (B,), in float32.

    It is the logit of the class minus the log-sum-exp of all other logits.
    """
    logits_BC, labels_B1 = logits_BC.float(), labels_B[:, None]
    others_B = logits_BC.scatter(1, labels_B1, float("-inf")).logsumexp(dim=1)
    return logits_BC.gather(1, labels_B1)[:, 0] - others_B
