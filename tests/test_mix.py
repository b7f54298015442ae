"""Mixing: images and targets alike, and the share of cutmix is the true one."""

import pytest
import torch
from torch import Tensor

from models.augment import cutmix, mix, mixup


def own_targets(batch: int = 8, side: int = 20) -> tuple[Tensor, Tensor]:
    """Images of one value each, which says whose target they have."""
    images_BCHW = torch.arange(batch).float().view(-1, 1, 1, 1).expand(batch, 3, side, side)
    return images_BCHW, torch.eye(batch)


@pytest.mark.parametrize("seed", range(12))
def test_share_of_the_target_is_the_share_of_the_pixels(seed: int) -> None:
    images_BCHW, targets_BC = own_targets()
    torch.manual_seed(seed)
    mixed_BCHW, mixed_BC = cutmix(images_BCHW, targets_BC, 1.0)
    for image_CHW, target_C in zip(mixed_BCHW, mixed_BC, strict=True):
        for label, share in enumerate(target_C.tolist()):
            assert share == pytest.approx(float((image_CHW == label).float().mean()), abs=1e-6)


def test_rectangle_is_one_of_a_share_drawn_from_beta_and_is_cut_off_at_the_edge() -> None:
    """The formulas of Yun et al. 2019 with the draws of this seed."""
    images_BCHW, targets_BC = own_targets(2, 100)
    found, cut_off = set(), 0
    for seed in range(40):
        torch.manual_seed(seed)
        side = (1 - float(torch.distributions.Beta(1.0, 1.0).sample())) ** 0.5
        y, x = torch.rand(2).tolist()
        swapped = torch.randperm(2).tolist() == [1, 0]
        torch.manual_seed(seed)
        mixed_BCHW, _ = cutmix(images_BCHW, targets_BC, 1.0)
        half = int(side * 100) // 2
        spans = [
            (max(0, int(place * 100) - half), min(100, int(place * 100) + half)) for place in (y, x)
        ]
        cut_off += any(last - first < 2 * half for first, last in spans)
        expected_HW = torch.zeros(100, 100)
        if swapped:
            (top, bottom), (left, right) = spans
            expected_HW[top:bottom, left:right] = 1
        assert torch.equal(mixed_BCHW[0, 0], expected_HW)
        found.add(int(expected_HW.sum()))
    assert len(found) > 10
    assert cut_off > 10


def test_the_given_batch_stays() -> None:
    images_BCHW, targets_BC = torch.rand(6, 3, 8, 8), torch.eye(6)
    kept = images_BCHW.clone(), targets_BC.clone()
    for change in (mixup, cutmix):
        change(images_BCHW, targets_BC, 1.0)
        assert torch.equal(images_BCHW, kept[0])
        assert torch.equal(targets_BC, kept[1])


def test_off_is_the_batch_itself_and_draws_nothing() -> None:
    images_BCHW, targets_BC = own_targets()
    state = torch.get_rng_state()
    same_BCHW, same_BC = mix(images_BCHW, targets_BC)
    assert same_BCHW is images_BCHW
    assert same_BC is targets_BC
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [mixup, cutmix])
def test_one_kind_alone_draws_as_by_itself(kind: object) -> None:
    images_BCHW, targets_BC = own_targets()
    alphas = {"mixup_alpha": 0.4 * (kind is mixup), "cutmix_alpha": 0.4 * (kind is cutmix)}
    torch.manual_seed(4)
    first = mix(images_BCHW, targets_BC, **alphas)
    torch.manual_seed(4)
    second = (mixup if kind is mixup else cutmix)(images_BCHW, targets_BC, 0.4)
    assert all(map(torch.equal, first, second))


def test_both_kinds_take_turns_at_random() -> None:
    images_BCHW, targets_BC = own_targets()
    whole = 0
    for seed in range(200):
        torch.manual_seed(seed)
        mixed_BCHW, _ = mix(images_BCHW, targets_BC, mixup_alpha=1.0, cutmix_alpha=1.0)
        whole += bool((mixed_BCHW != mixed_BCHW.round()).any())
    assert 70 < whole < 130
