"""Losses and scores: plain arithmetic on logits.

In: logits_BC. Out: losses and log-odds, in float32.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def soft_cross_entropy(logits_BC: Tensor, targets_BC: Tensor, label_smoothing: float) -> Tensor:
    """Mean cross-entropy against a distribution over classes, in nats.

    Label smoothing mixes the target with the uniform distribution ("Rethinking the Inception
    architecture", Szegedy et al. 2015, section 7).
    """
    num_classes = logits_BC.shape[1]
    smooth_BC = targets_BC * (1 - label_smoothing) + label_smoothing / num_classes
    log_probabilities_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return -(smooth_BC * log_probabilities_BC).sum(dim=1).mean()


def normalise_targets(weights_BC: Tensor) -> Tensor:
    """Weights of classes as distributions: each row sums to 1, but one without weights stays 0."""
    sums_B1 = weights_BC.sum(dim=1, keepdim=True)
    return weights_BC / torch.where(sums_B1 > 0, sums_B1, 1.0)


def distillation(logits_BC: Tensor, teacher_logits_BC: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the student against the teacher, in nats, both at a temperature.

    -sum over y of P_T(y|x; tau) log P_S(y|x; tau), with P = softmax(logits / tau): "Big
    self-supervised models" (SimCLRv2, Chen et al. 2020), equation 2. "Distilling the knowledge"
    (Hinton et al. 2015, section 2.1) multiplies it by tau squared.
    """
    targets_BC = torch.softmax(teacher_logits_BC.float() / temperature, dim=1)
    return soft_cross_entropy(logits_BC.float() / temperature, targets_BC, label_smoothing=0)


def nt_xent(
    own_2BD: Tensor, all_2GD: Tensor, first: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """NT-Xent, the contrastive loss of SimCLR, of the images of one process against those of all.

    -log(exp(s(i, j) / tau) / sum over k != i of exp(s(i, k) / tau)), where i and j are two views of
    an image, k is any view, and s the cosine ("A simple framework for contrastive learning", Chen
    et al. 2020, equation 1); the mean over the own views as i.

    `own_2BD` are embeddings of both views of B images, shape (2, B, D); `all_2GD` those of the
    images of all processes, of which the own ones are number `first` and following.
    Returns the loss, and how often the other view is the nearest of all views.
    """
    # In float32 at least: similarities are divided by a small temperature.
    dtype = torch.promote_types(own_2BD.dtype, torch.float32)
    own_2BD, all_2GD = (normalize(part.to(dtype), dim=2) for part in (own_2BD, all_2GD))
    _, num_own, size = own_2BD.shape
    num_all = all_2GD.shape[1]
    with torch.autocast(own_2BD.device.type, enabled=False):
        logits_IK = own_2BD.reshape(-1, size) @ all_2GD.reshape(-1, size).t() / temperature
    image_B = torch.arange(first, first + num_own, device=own_2BD.device)
    itself_I1 = torch.cat([image_B, image_B + num_all])[:, None]
    other_I = torch.cat([image_B + num_all, image_B])
    logits_IK = logits_IK.scatter(1, itself_I1, float("-inf"))
    nearest_I = logits_IK.argmax(dim=1) == other_I
    return cross_entropy(logits_IK, other_I), nearest_I.float().mean()


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
