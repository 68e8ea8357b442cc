from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from toy import Ball, ToyCohort, toy_case

from medlib.annotation.case import Case
from medlib.baseline import training_sources
from medlib.baseline.training_sources import (
    check_licences,
    leave_out,
    outline_givers,
    training_windows,
    whole_scans,
    windows,
)
from medlib.cohorts.cohort import REAL, Cohort, cohort_key, open_cohort
from medlib.cohorts.nodule_volumes import MARGIN_PX, SMALLEST_PX
from medlib.cohorts.project_split import lidc_patients
from medlib.errors import DataError

TRAIN, TUNE, TEST = (min(lidc_patients(split)) for split in ("train", "tune", "test"))
SMALL, LARGE, NEAR = Ball((20, 64, 92), 6, 3), Ball((20, 64, 36), 19), Ball((20, 70, 104), 3)


def case_of(balls: list[Ball], origins: list[str]) -> Case:
    case = toy_case(balls, "toy", "tune")
    return replace(case, lesions=case.lesions.assign(origin=[f"{name}/1" for name in origins]))


def source_of(*cases: Case) -> ToyCohort:
    """Cases of one patient, each with a name of its own."""
    return ToyCohort(tuple(replace(case, case_id=f"case-{k}") for k, case in enumerate(cases)))


def test_a_phantom_nodule_is_cut_as_the_real_ones_were():
    case = case_of([SMALL, LARGE], [TUNE, TUNE])
    small, large = windows(source_of(case), "tune")
    # The median of the real pixels is 0.7 mm, here 1.
    assert small.volume.hu.shape[1:] == (round(0.7 * SMALLEST_PX),) * 2
    assert large.volume.hu.shape[1:] == (38 + 2 * round(0.7 * MARGIN_PX),) * 2
    for found, label in ((small, 1), (large, 2)):
        lesion = np.argwhere(case.lesion_labels == label)
        masks = found.drawn_masks()
        inside = np.argwhere(masks[0])
        # Along z it ends with the nodule; in the patient it lies where it lay.
        assert len(found.volume.hu) == np.ptp(lesion[:, 0]) + 1
        assert masks.sum() == len(masks) * len(lesion)
        np.testing.assert_allclose(
            found.volume.to_patient_mm(inside.astype(float)),
            case.volume.to_patient_mm(lesion.astype(float)),
        )
        assert found.volume.hu[tuple(inside.T)] == pytest.approx(40)
    assert len(small.drawn_masks()) == 3
    assert small.is_window
    assert [found.case_id for found in (small, large)] == ["toy-1", "toy-2"]


def test_what_two_readers_drew_is_not_among_them():
    source = source_of(case_of([replace(SMALL, n_readers=2), LARGE], [TUNE, TUNE]))
    assert [found.case_id for found in windows(source, "tune")] == ["toy-2"]


def test_nodules_to_train_on_have_outlines_of_the_train_part():
    cases = [case_of([SMALL, LARGE], [TRAIN, TEST])]
    cases.append(replace(cases[0], split="train"))
    source = source_of(*cases)
    assert [found.case_id for found in windows(source, "train")] == ["toy-1"]
    assert outline_givers(source, "train") == {TRAIN}
    assert [found.case_id for found in windows(source, "tune")] == ["toy-1", "toy-2"]
    assert outline_givers(source, "tune") == {TRAIN, TEST}


def test_a_nodule_at_the_wall_of_the_grid_is_cut_within_it():
    case = case_of([Ball((20, 12, 120), 4)], [TUNE])
    (found,) = windows(source_of(case), "tune")
    assert found.volume.hu.shape[1:] == (round(0.7 * SMALLEST_PX),) * 2
    lesion = np.argwhere(case.lesion_labels == 1)
    np.testing.assert_allclose(
        found.volume.to_patient_mm(np.argwhere(found.readers).astype(float)),
        case.volume.to_patient_mm(lesion.astype(float)),
    )


def test_each_reader_keeps_an_outline_of_their_own():
    case = case_of([LARGE], [TUNE])
    readers = case.readers.copy()
    half = np.argwhere(readers > 0)[::2]
    readers[tuple(half.T)] &= 0b1101  # the second drew half of it
    readers &= 0b1011  # the third drew nothing
    (found,) = windows(source_of(replace(case, readers=readers)), "tune")
    whole = int((case.readers > 0).sum())
    assert found.drawn_masks().sum(axis=(1, 2, 3)).tolist() == [whole, whole - len(half), whole]


def test_with_another_lesion_beside_it_a_nodule_is_not_trained_on():
    source = source_of(case_of([SMALL, NEAR, LARGE], [TUNE, TUNE, TUNE]))
    every = list(windows(source, "tune"))
    assert len(every) == 3
    assert [found.case_id for found in training_windows(source, "tune")] == ["toy-3"]
    # The other one is no part of its outline.
    assert (every[0].readers > 0).sum() == (source.all_cases[0].lesion_labels == 1).sum()


def test_a_phantom_has_no_whole_scans_of_its_own():
    assert list(whole_scans(source_of(case_of([SMALL], [TUNE])), "tune")) == []


def of_licence(licence: str, split: str) -> Cohort:
    row = {"case_id": "LUNG1-001", "licence": licence, "split": split}
    return Cohort("real", Path(), pd.DataFrame([row]))


@pytest.mark.parametrize(
    "licence", ["CC BY-NC 3.0", "CC BY-NC-ND 4.0", "all rights reserved", "CC BY-SA 4.0"]
)
def test_images_for_testing_alone_are_refused(licence: str):
    check_licences(of_licence(licence, "test"))
    for split in ("train", "tune"):
        with pytest.raises(DataError, match="LUNG1-001 has the licence .* for testing alone"):
            check_licences(of_licence(licence, split))


@pytest.mark.parametrize("licence", ["CC BY 3.0", "CC BY 4.0", "BSD-3-Clause (package licence)"])
def test_free_images_may_train(licence: str):
    check_licences(of_licence(licence, "train"))


def test_a_scan_is_left_out_and_another_takes_its_place(tmp_path):
    parts = {"first": "train", "second": "train", "third": "tune", "fourth": "test"}
    table = pd.DataFrame({"case_id": list(parts), "split": list(parts.values())})
    real = Cohort("real", tmp_path, table.assign(is_window=False, label_kind="boxes"))

    def split_without(case: str) -> list[str]:
        return leave_out(real, case).table["split"].tolist()

    assert split_without("first") == ["test", "train", "tune", "test"]
    assert split_without("second") == ["train", "test", "tune", "test"]
    assert split_without("third") == ["tune", "train", "test", "test"]
    assert real.table["split"].tolist() == list(parts.values())
    for unseen in ("fourth", "fifth"):
        with pytest.raises(DataError, match=f"no scan '{unseen}' .* one of first, second, third$"):
            leave_out(real, unseen)
    one = replace(real, table=real.table[:1])
    with pytest.raises(DataError, match="no whole scan is left"):
        leave_out(one, "first")


def real_folder(folder: Path) -> Path:
    (folder / "lidc_voi").mkdir()
    (folder / "full_ct" / "LUNG1-001").mkdir(parents=True)
    image = nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4))
    for name in ("ct.nii.gz", "readers.nii.gz"):
        nibabel.save(image, folder / "lidc_voi" / name)
        nibabel.save(image, folder / "full_ct" / "LUNG1-001" / name)
    row = {"voi_id": "v", "patient_id": "LIDC-IDRI-0001", "n_readers": 3}
    files = {"ct_file": "ct.nii.gz", "readers_file": "readers.nii.gz"}
    pd.DataFrame([{**row, **files}]).to_csv(folder / "lidc_voi" / "lidc_voi.csv")
    scan = {"case": "LUNG1-001", "licence": "CC BY-NC 3.0", "image_file": "ct.nii.gz"}
    table = pd.DataFrame([{**scan, "mask_file": "readers.nii.gz"}])
    table.to_csv(folder / "full_ct" / "cases.csv")
    return folder


def test_a_scan_that_is_not_named_for_training_tests(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDLIB_REAL_CT", str(real_folder(tmp_path)))
    real = open_cohort(REAL)
    assert real.table["split"].tolist() == ["train", "test"]
    keys = (training_sources.checksum, cohort_key)
    before = [key(real) for key in keys]
    (tmp_path / "lidc_voi" / "ct.nii.gz").write_bytes(b"other")
    assert not {key(real) for key in keys} & set(before)
    monkeypatch.delenv("MEDLIB_REAL_CT")
    with pytest.raises(DataError, match="set MEDLIB_REAL_CT"):
        open_cohort(REAL)


@pytest.mark.real_ct
def test_no_patient_of_the_real_ct_is_on_two_sides():
    if not (folder := os.environ.get("MEDLIB_REAL_CT")):
        pytest.skip("MEDLIB_REAL_CT names no folder with real CT")
    real = open_cohort(folder)
    assert (real.table.groupby("patient_id")["split"].nunique() == 1).all()
    assert set(real.table["split"]) >= {"train", "tune", "test", "external"}
    check_licences(real)
