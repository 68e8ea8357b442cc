from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medlib.images.leakage import nearest_is_own, nearest_neighbour_scores, slice_thumbnails


def test_labels_that_only_the_patient_explains_are_found_by_the_image_split_alone():
    """Pictures of a patient are alike, and so are their labels: nothing to learn about others."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 12)
    pictures = rng.normal(size=(40, 30))[patients] + rng.normal(scale=0.2, size=(480, 30))
    labels = rng.permutation(np.arange(40) % 2 == 0)[patients]
    by_image = nearest_neighbour_scores(pictures.astype(np.float32), labels, None, 0)
    by_patient = nearest_neighbour_scores(pictures.astype(np.float32), labels, patients, 0)
    assert roc_auc_score(labels, by_image) > 0.99
    assert 0.3 < roc_auc_score(labels, by_patient) < 0.7
    assert nearest_is_own(pictures.astype(np.float32), patients).all()


def test_nearest_picture_is_never_the_picture_itself():
    pictures = np.array([[0.0], [1.0], [1.1], [5.0]], dtype=np.float32)
    own = nearest_is_own(pictures, np.array(["a", "a", "b", "b"]))
    assert own.tolist() == [True, False, False, True]


def test_thumbnails_are_block_means(volume):
    hu = np.full((2, 85, 80), -1350, np.float32)
    hu[1, :2, :1] = 150
    pictures = slice_thumbnails(dataclasses.replace(volume, hu=hu))
    assert pictures.shape == (2, 1600)
    assert pictures[1, 0] == pytest.approx(0.5)
    assert pictures.sum() == pytest.approx(0.5)
