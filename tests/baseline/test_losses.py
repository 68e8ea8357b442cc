from __future__ import annotations

import pytest
import torch

from medlib.baseline.config import TrainConfig
from medlib.baseline.losses import (
    ALARM_PX,
    EDGE_PX,
    DiceBCELoss,
    alarm_loss,
    build_loss,
    crop_dice_loss,
)
from medlib.baseline.training_volume import IGNORED


def test_a_right_mask_costs_nothing_and_a_wrong_one_much():
    target = torch.zeros(2, 1, 8, 8)
    target[:, :, 2:5, 2:5] = 1
    loss = DiceBCELoss()
    right = torch.where(target == 1, 20.0, -20.0)
    assert loss(right, target) == pytest.approx(0, abs=1e-4)
    assert loss(-right, target) > 10


def test_disputed_voxels_change_neither_loss_nor_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, generator=generator).requires_grad_()
    target = torch.zeros(2, 1, 8, 8)
    target[:, :, 2:5, 2:5] = 1
    target[:, :, 6:, 6:] = IGNORED
    loss = DiceBCELoss()(logits, target)
    loss.backward()
    assert (logits.grad[target == IGNORED] == 0).all()
    assert (logits.grad[target == 1] != 0).all()
    with torch.no_grad():
        changed = torch.where(target == IGNORED, 50.0, logits)
        assert DiceBCELoss()(changed, target) == pytest.approx(loss.item())


def test_each_part_counts_by_its_weight():
    target = torch.zeros(1, 1, 4, 4)
    target[..., 0] = 1
    logits = torch.zeros(1, 1, 4, 4)
    dice, bce = DiceBCELoss(1, 0)(logits, target), DiceBCELoss(0, 1)(logits, target)
    assert bce == pytest.approx(0.6931, abs=1e-4)
    assert dice == pytest.approx(1 - 2 * 2 / (8 + 4), abs=1e-4)
    assert DiceBCELoss(2, 3)(logits, target) == pytest.approx(float(2 * dice + 3 * bce))


def test_a_batch_without_a_lesion_is_judged_by_cross_entropy():
    target = torch.zeros(1, 1, 4, 4)
    loss = DiceBCELoss()
    assert loss(torch.full((1, 1, 4, 4), 3.0), target) > loss(
        torch.full((1, 1, 4, 4), -3.0), target
    )


def test_dice_by_crop_counts_a_small_lesion_as_a_large_one():
    target = torch.zeros(3, 1, 32, 32)
    target[0, :, :20, :20] = 1
    target[1, :, :4, :4] = 1
    right = torch.where(target == 1, 20.0, -20.0)
    small_missed, large_missed = right.clone(), right.clone()
    small_missed[1] = large_missed[0] = -20
    assert crop_dice_loss(right, target) == pytest.approx(0, abs=1e-4)
    assert crop_dice_loss(large_missed, target) == pytest.approx(0.5, abs=0.02)
    assert crop_dice_loss(small_missed, target) > 0.3  # together they would hardly notice
    assert crop_dice_loss(right[2:], target[2:]) == 0  # no lesion, nothing to compare
    with_crops = DiceBCELoss(crop_dice_weight=0.5)(small_missed, target)
    without = DiceBCELoss()(small_missed, target)
    assert with_crops - without == pytest.approx(0.5 * crop_dice_loss(small_missed, target))


def test_dice_by_crop_is_blind_to_what_is_left_out():
    target = torch.zeros(1, 1, 16, 16)
    target[:, :, 2:6, 2:6] = 1
    target[:, :, 10:] = IGNORED
    logits = torch.where(target == 1, 20.0, -20.0)
    logits[target == IGNORED] = 20
    assert crop_dice_loss(logits, target) == pytest.approx(0, abs=1e-4)


def test_a_small_false_alarm_costs_as_much_as_a_large_one():
    target = torch.zeros(1, 1, 64, 64)
    target[:, :, :6, :6] = 1
    right = torch.where(target == 1, 20.0, -20.0)
    small, large = right.clone(), right.clone()
    small[:, :, 40:44, 40:45] = 4.0  # ALARM_PX voxels
    large[:, :, 30:60, 30:60] = 4.0
    assert (small != right).sum() == ALARM_PX
    assert alarm_loss(right, target) == pytest.approx(0, abs=1e-4)
    assert alarm_loss(small, target) == pytest.approx(4.018, abs=1e-3)  # log(1 + e^4)
    assert alarm_loss(large, target) == pytest.approx(float(alarm_loss(small, target)))
    two_crops = torch.cat([small, right]), torch.cat([target, target])
    assert alarm_loss(*two_crops) == pytest.approx(4.018 / 2, abs=1e-3)
    with_alarms, without = (
        build_loss(TrainConfig(profile="toy", cohort="toy", alarm_weight=weight))(small, target)
        for weight in (0.2, 0.0)
    )
    assert with_alarms - without == pytest.approx(0.2 * 4.018, abs=1e-3)


def test_the_edge_of_a_lesion_and_what_is_left_out_are_no_false_alarm():
    target = torch.zeros(1, 1, 64, 64)
    target[:, :, 10:20, 10:20] = 1
    target[:, :, 40:50, 40:50] = IGNORED
    logits = torch.full(target.shape, -20.0)
    for first, last in ((10, 20), (40, 50)):
        around = slice(first - EDGE_PX, last + EDGE_PX)
        logits[:, :, around, around] = 9.0
    logits.requires_grad_()
    loss = alarm_loss(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert logits.grad[:, :, 8:22, 8:22].abs().max() == 0
    one_further = logits.detach().clone()
    one_further[:, :, 10, 20 + EDGE_PX] = 9.0
    assert alarm_loss(one_further, target) > 0.4


LOSSES = ["combined", "bce", "weighted-bce", "dice", "focal", "tversky"]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_wants_the_lesion_and_is_blind_to_what_is_left_out(name: str):
    loss = build_loss(TrainConfig(profile="one", cohort="quick", loss=name))
    target = torch.zeros(2, 1, 16, 16)
    target[:, :, 4:8, 4:8] = 1
    target[:, :, 12:, 12:] = IGNORED
    right = torch.where(target == 1, 8.0, -8.0)
    half = torch.where((target == 1) & (torch.arange(16)[:, None] < 6), 8.0, -8.0)
    nothing = torch.full_like(right, -8.0)
    assert loss(right, target) < loss(half, target) < loss(nothing, target)
    changed = torch.where(target == IGNORED, 8.0, right)
    assert loss(changed, target) == pytest.approx(float(loss(right, target)), abs=1e-6)


def test_a_miss_costs_more_than_a_false_alarm_where_it_should():
    target = torch.zeros(1, 1, 16, 16)
    target[..., :8] = 1
    missed = torch.where(torch.arange(16).expand(1, 1, 16, 16) < 4, 8.0, -8.0)
    false = torch.where(torch.arange(16).expand(1, 1, 16, 16) < 12, 8.0, -8.0)

    def ratio(name: str) -> float:
        loss = build_loss(TrainConfig(profile="one", cohort="quick", loss=name))
        return float(loss(missed, target) / loss(false, target))

    assert ratio("bce") == pytest.approx(1, abs=0.05)
    assert ratio("weighted-bce") > 5
    assert ratio("focal") > 2
    assert ratio("tversky") > 1.5 * ratio("dice")


def test_dice_by_crop_asks_for_the_share_of_the_readers():
    target = torch.zeros(1, 1, 16, 16)
    target[..., 4:12, 4:12] = 0.75

    def loss(probability: float) -> float:
        logits = torch.full_like(target, -20.0)
        logits[target > 0] = torch.logit(torch.tensor(probability))
        return float(crop_dice_loss(logits, target))

    assert loss(0.75) < loss(0.2)
    assert crop_dice_loss(torch.zeros_like(target), torch.where(target > 0, 0.25, 0.0)) == 0
