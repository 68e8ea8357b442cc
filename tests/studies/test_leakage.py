from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medlib.errors import DataError
from studies.leakage import (
    BY_IMAGE,
    BY_PATIENT,
    inflation,
    judge_splits,
    lesion_crops,
    mean_auroc,
    nearest_is_own,
    unrelated_patients,
)

PATIENTS = np.repeat(np.arange(30), 8)


def alike_within_patients(rng, learnable=0.0):
    """Images of a patient resemble each other; labels belong to patients, `learnable` or not."""
    labels = rng.permutation(np.arange(30) % 2 == 0)[PATIENTS]
    own = rng.normal(size=(30, 36))[PATIENTS]
    images = own + rng.normal(scale=0.3, size=own.shape) + learnable * labels[:, None]
    return images.reshape(-1, 6, 6).astype(np.float32), labels


def test_what_only_the_patient_explains_is_found_by_the_split_by_image_alone():
    images, labels = alike_within_patients(np.random.default_rng(0))
    judged = judge_splits(images, labels, PATIENTS, repeats=6)
    assert mean_auroc(judged, BY_IMAGE) > 0.97
    assert 0.25 < mean_auroc(judged, BY_PATIENT) < 0.75
    assert inflation(judged) > 0.25


def test_no_inflation_where_patients_share_nothing():
    """The measure can fail: the same images, dealt out to patients at random."""
    images, labels = alike_within_patients(np.random.default_rng(0))
    judged = judge_splits(images, labels, unrelated_patients(PATIENTS, 0), repeats=6)
    assert abs(inflation(judged)) < 0.03


def test_no_inflation_where_images_of_a_patient_are_not_alike():
    rng = np.random.default_rng(1)
    labels = rng.random(len(PATIENTS)) < 0.5
    images = rng.normal(size=(len(PATIENTS), 6, 6)) + 0.35 * labels[:, None, None]
    judged = judge_splits(images.astype(np.float32), labels, PATIENTS, repeats=6)
    assert 0.7 < mean_auroc(judged, BY_PATIENT) < 0.99  # there is something to learn
    assert abs(inflation(judged)) < 0.06


def test_both_splits_train_on_as_many_images_and_keep_their_parts_apart():
    images, labels = alike_within_patients(np.random.default_rng(0), learnable=0.5)
    patients = np.sort(np.random.default_rng(2).integers(0, 30, len(labels)))  # uneven patients
    judged = judge_splits(images, labels, patients, repeats=4)
    sizes = judged.groupby("repeat")["n_train"].unique()
    assert all(len(each) == 1 for each in sizes)
    assert len({int(each[0]) for each in sizes}) > 1
    for (split, _), test in judged.groupby(["split", "repeat"]):
        held = np.isin(np.arange(len(labels)), test["image"])
        torn = set(patients[held]) & set(patients[~held])
        assert (len(test) + test["n_train"].iloc[0]) == len(labels)
        assert bool(torn) == (split == BY_IMAGE)
        assert (test["label"].to_numpy() == labels[held]).all()
    again = judge_splits(images, labels, patients, repeats=4)
    pd.testing.assert_frame_equal(judged, again)


def test_mean_auroc_is_that_of_scikit_learn_a_repeat_at_a_time():
    rng = np.random.default_rng(0)
    judged = pd.DataFrame(
        {
            "split": BY_IMAGE,
            "repeat": np.tile([0, 1, 2], 40),
            "label": rng.random(120) < 0.3,
            "score": rng.random(120).round(1),  # with ties
        }
    )
    judged.loc[judged["repeat"] == 2, "label"] = True  # undefined: left out
    each = [
        roc_auc_score(part["label"], part["score"])
        for repeat, part in judged.groupby("repeat")
        if repeat < 2
    ]
    assert mean_auroc(judged, BY_IMAGE) == pytest.approx(np.mean(each))
    assert np.isnan(mean_auroc(judged, BY_PATIENT))
    assert np.isnan(inflation(judged))


def test_labels_that_cannot_be_judged():
    images = np.zeros((8, 4, 4), np.float32)
    with pytest.raises(DataError, match="8 images, 8 positive"):
        judge_splits(images, np.ones(8, bool), np.repeat([0, 1, 2, 3], 2))


def test_nearest_picture_is_never_the_picture_itself():
    pictures = np.array([[0.0], [1.0], [1.1], [5.0]], dtype=np.float32)
    own = nearest_is_own(pictures, np.array(["a", "a", "b", "b"]))
    assert own.tolist() == [True, False, False, True]


def test_crops_are_of_one_size_in_mm_about_the_lesion(volume):
    """A square of 4 mm on two scanners: as wide in both crops, and in the middle."""
    for spacing in (0.5, 1.0):
        n = int(60 / spacing)
        hu = np.full((3, n, n), -1000, np.float32)
        labels = np.zeros(hu.shape, np.uint8)
        first, side = int(20 / spacing), int(4 / spacing)
        labels[1, first : first + side, first : first + side] = 2
        hu[labels > 0] = 400
        affine = np.diag([spacing, spacing, 2.0, 1.0])
        ((label, k, crop),) = lesion_crops(
            dataclasses.replace(volume, hu=hu, affine=affine), labels
        )
        assert (label, k) == (2, 1)
        assert crop.shape == (32, 32)
        assert crop.dtype == np.float32
        assert crop.sum() == pytest.approx(16, rel=0.02)
        assert crop[14:18, 14:18].min() > 0.99


def test_crops_at_the_border_of_the_image(volume):
    labels = np.zeros(volume.hu.shape, np.uint8)
    labels[:2, 0, 0] = 1
    crops = list(lesion_crops(volume, labels))
    assert [(label, k) for label, k, _ in crops] == [(1, 0), (1, 1)]
    assert all(np.isfinite(crop).all() for _, _, crop in crops)
