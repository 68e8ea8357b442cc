from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import Ball, ToyCohort, toy_case

from medlib.annotation.case import Case
from medlib.baseline.training_sources import PhantomCT
from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts.nodule_volumes import MARGIN_PX, SMALLEST_PX

TRAIN, TUNE, TEST = (min(voi.patients_of(split)) for split in ("train", "tune", "test"))
SMALL, LARGE, NEAR = Ball((20, 64, 92), 6, 3), Ball((20, 64, 36), 19), Ball((20, 70, 104), 3)


def case_of(balls: list[Ball], origins: list[str]) -> Case:
    case = toy_case(balls, "toy", "tune")
    return replace(case, lesions=case.lesions.assign(origin=[f"{name}/1" for name in origins]))


def source_of(*cases: Case) -> PhantomCT:
    return PhantomCT(ToyCohort(cases, Path()))


def test_a_phantom_nodule_is_cut_as_the_real_ones_were():
    case = case_of([SMALL, LARGE], [TUNE, TUNE])
    small, large = source_of(case).read_vois("tune")
    # The median of the real pixels is 0.7 mm, here 1.
    assert small.volume.hu.shape[1:] == (round(0.7 * SMALLEST_PX),) * 2
    assert large.volume.hu.shape[1:] == (38 + 2 * round(0.7 * MARGIN_PX),) * 2
    for found, label in ((small, 1), (large, 2)):
        lesion = np.argwhere(case.lesion_labels == label)
        inside = np.argwhere(found.readers[0])
        # Along z it ends with the nodule; in the patient it lies where it lay.
        assert len(found.volume.hu) == np.ptp(lesion[:, 0]) + 1
        assert found.readers.sum() == len(found.readers) * len(lesion)
        np.testing.assert_allclose(
            found.volume.to_patient_mm(inside.astype(float)),
            case.volume.to_patient_mm(lesion.astype(float)),
        )
        assert found.volume.hu[tuple(inside.T)] == pytest.approx(40)
    assert len(small.readers) == 3
    assert [found.voi_id for found in (small, large)] == ["toy-1", "toy-2"]


def test_what_two_readers_drew_is_not_among_them():
    source = source_of(case_of([replace(SMALL, n_readers=2), LARGE], [TUNE, TUNE]))
    assert [found.voi_id for found in source.read_vois("tune")] == ["toy-2"]


def test_nodules_to_train_on_have_outlines_of_the_train_part():
    cases = [case_of([SMALL, LARGE], [TRAIN, TEST])]
    cases.append(replace(cases[0], split="train"))
    source = source_of(*cases)
    assert [found.voi_id for found in source.read_vois("train")] == ["toy-1"]
    assert source.outlines_of("train") == {TRAIN}
    assert [found.voi_id for found in source.read_vois("tune")] == ["toy-1", "toy-2"]
    assert source.outlines_of("tune") == {TRAIN, TEST}


def test_a_nodule_at_the_wall_of_the_grid_is_cut_within_it():
    case = case_of([Ball((20, 12, 120), 4)], [TUNE])
    (found,) = source_of(case).read_vois("tune")
    assert found.volume.hu.shape[1:] == (round(0.7 * SMALLEST_PX),) * 2
    lesion = np.argwhere(case.lesion_labels == 1)
    np.testing.assert_allclose(
        found.volume.to_patient_mm(np.argwhere(found.readers[0]).astype(float)),
        case.volume.to_patient_mm(lesion.astype(float)),
    )


def test_each_reader_keeps_an_outline_of_their_own():
    case = case_of([LARGE], [TUNE])
    readers = case.readers.copy()
    half = np.argwhere(readers > 0)[::2]
    readers[tuple(half.T)] &= 0b1101  # the second drew half of it
    readers &= 0b1011  # the third drew nothing
    (found,) = source_of(replace(case, readers=readers)).read_vois("tune")
    whole = int((case.readers > 0).sum())
    assert found.readers.sum(axis=(1, 2, 3)).tolist() == [whole, whole - len(half), whole]


def test_with_another_lesion_beside_it_a_nodule_is_not_trained_on():
    source = source_of(case_of([SMALL, NEAR, LARGE], [TUNE, TUNE, TUNE]))
    every = list(source.read_vois("tune"))
    assert len(every) == 3
    assert [found.voi_id for found in source.training_vois("tune")] == ["toy-3"]
    # The other one is no part of its outline.
    assert (
        every[0].readers.any(axis=0).sum() == (source.phantom.all_cases[0].lesion_labels == 1).sum()
    )


def test_the_part_of_a_patient_is_that_of_the_cohort():
    source = source_of(case_of([SMALL], [TUNE]))
    parts = source.part_of(pd.Series(["toy", "LIDC-IDRI-0001"]))
    assert parts.tolist() == ["tune", ""]
    assert list(source.read_scans("tune")) == []
