from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.annotation.policies import MASK_POLICIES
from medlib.cohorts.cohort import Cohort
from medlib.images.volume import SeriesIdentity, Volume
from studies import label_policies
from studies.policy_models import (
    OURS_IGNORING,
    SCALES_MM,
    TAUGHT,
    Block,
    blocks_of,
    cross_validate,
    features,
)

SHAPE = (9, 30, 30)
SPACING = (2.0, 1.0, 1.0)


def ball(radius_mm: float) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return np.hypot(np.hypot((z - 4) * 2.0, y - 15), x - 15) < radius_mm


def block(number: int, n_readers: int) -> Block:
    """A lesion that fades outwards, drawn by readers from the generous to the strict."""
    rng = np.random.default_rng(number)
    hu = -850 + sum(110.0 * ball(r) for r in (3, 4, 5, 6, 7, 8)) + rng.normal(0, 20, SHAPE)
    readers = np.zeros(SHAPE, dtype=np.uint8)
    for bit, radius in zip(range(n_readers), (8, 7, 5, 4), strict=False):
        readers |= ball(radius).astype(np.uint8) << np.uint8(bit)
    return Block(
        lesion_id=f"lesion-{number}",
        patient_id=f"patient-{number // 2}",
        n_readers=n_readers,
        diameter_mm=10.0,
        features=features(hu.astype(np.float32), SPACING),
        readers=readers,
        usable=np.ones(SHAPE, dtype=bool),
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return cross_validate([block(k, n) for k, n in enumerate((4, 4, 4, 4, 1, 4))], n_folds=2)


def test_a_row_a_lesion_and_training_policy(table):
    assert len(table) == 6 * len(TAUGHT)
    assert set(table["trained_on"]) == set(TAUGHT)
    assert {f"dice_{name}" for name in MASK_POLICIES} <= set(table)


def test_the_rule_passes_into_the_model(table):
    """Trained on the generous union it marks more than trained on what all four drew."""
    four = table[table["n_readers"] == 4].groupby("trained_on")["volume_over_mean"].mean()
    assert four["any"] > four["at least two"] > four["all"] > 0


def test_each_rule_is_learned_best_by_who_was_taught_it(table):
    four = table[table["n_readers"] == 4].groupby("trained_on")
    for rule, other in (("any", "all"), ("all", "any")):
        overlap = four[f"dice_{rule}"].mean()
        assert overlap[rule] > overlap[other]


def test_ignoring_a_disputed_lesion_is_not_teaching_that_it_is_background(table):
    alone = table[table["n_readers"] == 1].set_index("trained_on")["volume_over_mean"]
    assert alone[OURS_IGNORING] >= alone["all"]


def test_what_a_rule_leaves_out_is_undefined_not_zero(table):
    alone = table[table["n_readers"] == 1]
    assert alone[["hit", "dice_at least two", "dice_all", "dice_vs_majority"]].isna().all(axis=None)
    assert alone["dice_any"].notna().all()


def test_a_block_holds_its_lesion_and_nothing_of_another():
    hu = np.full((6, 40, 60), -850, dtype=np.float32)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[2:4, 18:22, 18:22], labels[2:4, 18:22, 24:28] = 1, 2
    lesions = pd.DataFrame(
        [{"lesion_id": f"c-{k}", "label": k, "n_readers": 1, "diameter_mm": 4.0} for k in (1, 2)],
        columns=list(LESION_COLUMNS),
    )
    volume = Volume(hu, np.diag([1.0, 1.0, 2.0, 1.0]), SeriesIdentity("p", "1.2", "1.3"))
    case = Case("c", "p", "s", "test", volume, (labels > 0).astype(np.uint8), labels, lesions)
    first, second = blocks_of(case)
    assert first.readers.sum() == second.readers.sum() == 2 * 4 * 4
    assert (~first.usable).sum() == 2 * 4 * 4  # the other lesion
    assert first.features.shape == (*first.readers.shape, 3 * len(SCALES_MM))


def test_the_committed_table_was_made_by_this_code_on_this_phantom():
    cohort = Cohort("quick-seed0", Path(), pd.DataFrame())
    folder = label_policies.committed(cohort)
    assert (folder / label_policies.KEY).read_text().strip() == label_policies.study_key(cohort), (
        "the policy study is stale: run python -m studies label-policies"
    )
    assert set(pd.read_csv(folder / label_policies.TABLE)["trained_on"]) == set(TAUGHT)
