from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medlib.cohorts.chexpert import POLICIES
from medlib.errors import DataError
from studies.uncertain_labels import compare_policies, weighted_auroc

PATHS = [f"train/patient{k:05d}/study1/view1_frontal.jpg" for k in range(6)]


@pytest.fixture
def csv(tmp_path):
    edema = [1.0, 0.0, -1.0, None, -1.0, 1.0]
    pd.DataFrame({"Path": PATHS, "Edema": edema}).to_csv(tmp_path / "train.csv")
    return tmp_path / "train.csv"


def test_the_same_scores_under_every_policy(csv):
    scores = dict(zip(PATHS, [0.9, 0.3, 0.6, 0.1, 0.2, 0.8], strict=True))
    found = compare_policies(csv, scores, "Edema").set_index("policy")
    assert list(found.index) == list(POLICIES)
    assert (found["uncertain"] == 2).all()
    assert found["images"].to_dict() == {"U-Ones": 6, "U-Zeros": 6, "soft": 6, "ignore": 4}
    assert found["prevalence"]["U-Ones"] == pytest.approx(4 / 6)
    assert found["prevalence"]["U-Zeros"] == pytest.approx(2 / 6)
    assert found["prevalence"]["ignore"] == pytest.approx(2 / 4)
    assert (
        found["prevalence"]["U-Zeros"] < found["prevalence"]["soft"] < found["prevalence"]["U-Ones"]
    )
    assert found["auroc"]["U-Ones"] == pytest.approx(7 / 8)
    assert found["auroc"]["U-Zeros"] == pytest.approx(1)
    assert found["auroc"]["ignore"] == pytest.approx(1)
    with pytest.raises(DataError, match="no score for 1 "):
        compare_policies(csv, dict.fromkeys(PATHS[1:], 0.5), "Edema")


def test_weighted_auroc_is_the_expectation_over_hard_labels():
    rng = np.random.default_rng(0)
    score, truth, one = rng.random(50), rng.random(50) < 0.4, np.ones(50)
    hard = weighted_auroc(truth.astype(float), score, one)
    assert hard == pytest.approx(roc_auc_score(truth, score))
    # An image of label 1/4 counts as one positive and three negatives of the same score.
    soft = np.where(np.arange(50) < 10, 0.25, truth)
    copies = np.concatenate([score[:10]] * 4 + [score[10:]] * 4)
    labels = np.concatenate([np.repeat([1, 0, 0, 0], 10)] + [truth[10:]] * 4)
    assert weighted_auroc(soft, score, one) == pytest.approx(roc_auc_score(labels, copies))
    assert np.isnan(weighted_auroc(one, score, one))
