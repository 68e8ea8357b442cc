from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medlib import paths
from medlib.annotation.case import LESION_COLUMNS
from medlib.cohorts import phantom_cohorts
from medlib.cohorts import phantom_receipts as manifest
from medlib.cohorts.cohort import Cohort, check_voxels, open_cohort, receipts
from medlib.cohorts.phantom_receipts import Receipt
from medlib.errors import DataError, OverlapError
from medlib.phantom import recipe
from medlib.phantom.cohort_sizes import PARTS, PROFILES, CohortProfile
from medlib.phantom.sites import Grid

TINY = CohortProfile("tiny", train=1, tune=0, test=1, external=1, clinical=False)
COARSE = Grid((24, 150, 150), (4.0, 2.2, 2.2))


@pytest.fixture(scope="module", autouse=True)
def coarse_grid() -> Iterator[None]:
    """The anatomy is defined in mm, so a coarse grid makes the same patients quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "site_grid", lambda site, *, clinical: COARSE)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Cohort:
    return opened(tmp_path_factory.mktemp("data"))


def opened(data: Path) -> Cohort:
    """Open the phantom that stands there, or make it in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "DATA", data)
        patch.setattr(phantom_cohorts, "WORKERS", 1)
        return open_cohort("phantom", TINY, seed=3)


@pytest.fixture
def copy(made, tmp_path) -> Cohort:
    shutil.copytree(made.folder, tmp_path / made.folder.name)
    return Cohort(made.name, tmp_path / made.folder.name, made.table)


def reopen(there: Cohort) -> Cohort:
    return opened(there.folder.parent)


def test_layout_and_table(made):
    assert made.table["split"].tolist() == ["train", "test", "external"]
    assert made.table["patient_id"].is_unique
    assert made.table["n_lesions"].tolist() == [len(p.nodules) for p in recipe.plan_cohort(TINY, 3)]
    assert (made.table["n_lesions"] > 0).all()
    for case_id in made.table["case_id"]:
        names = {path.name for path in (made.folder / case_id).iterdir()}
        assert names == {"ct", "readers.nii.gz", "labels.nii.gz", "lesions.csv", "receipt.json"}
        assert len(list((made.folder / case_id / "ct").glob("*.dcm"))) == COARSE.shape_zyx[0]
    assert not list(made.folder.glob(".case-*"))


def test_a_case_holds_together(made):
    for case in made.cases():
        assert case.volume.hu.shape == case.readers.shape == case.lesion_labels.shape
        assert case.volume.spacing_mm == pytest.approx(COARSE.spacing_mm)
        assert ((case.readers > 0) == (case.lesion_labels > 0)).all()
        assert tuple(case.lesions.columns) == LESION_COLUMNS
        for lesion in case.lesions.itertuples():
            block, readers = case.lesion_readers(lesion.label, margin=1)
            assert case.readers[block].shape == readers.shape
            assert np.bitwise_or.reduce(readers, axis=None) == 2**lesion.n_readers - 1
            assert (readers > 0).sum() == (case.lesion_labels == lesion.label).sum()
        with pytest.raises(ValueError, match="no lesion 99"):
            case.lesion_readers(99)


def test_lesions_show_in_the_images(made):
    contrast = []
    for case in made.cases():
        solid = case.lesions.loc[case.lesions["texture"] >= 4, "label"]
        mask = np.isin(case.lesion_labels, solid)
        if mask.any():
            contrast.append(float(case.volume.hu[mask].mean()))
    assert contrast
    assert min(contrast) > -700


def test_the_same_plan_gives_the_same_voxels(made):
    plan = recipe.plan_cohort(TINY, 3)[1]
    again, _ = recipe.make_case(plan)
    assert Receipt.of(again) == Receipt.of(made.case(plan.case_id))


def test_another_seed_gives_another_cohort():
    first, second = recipe.plan_cohort(TINY, 3), recipe.plan_cohort(TINY, 4)
    assert {p.seed for p in first}.isdisjoint(p.seed for p in second)
    assert [p.nodules for p in first] != [p.nodules for p in second]


@pytest.mark.parametrize("name", list(PROFILES))
def test_no_lidc_patient_is_used_twice_and_parts_have_real_proportions(name):
    plans = recipe.plan_cohort(PROFILES[name], 0)
    sources = [nodule.patient_id for plan in plans for nodule in plan.nodules]
    assert len(sources) == len(set(sources))
    assert not any(nodule.is_oversized for plan in plans for nodule in plan.nodules)
    assert len({plan.patient_id for plan in plans}) == len(plans)
    for part in PARTS:
        own = [plan for plan in plans if plan.split == part]
        readers = [nodule.n_readers for plan in own for nodule in plan.nodules]
        assert len(own) == PROFILES[name].patients(part)
        expected = np.mean(recipe.LESIONS_PER_PATIENT[part])
        assert len(readers) / len(own) == pytest.approx(expected, abs=0.75)
        assert not all(plan.nodules for plan in own)  # some are free of lesions
        assert readers.count(1) / len(readers) == pytest.approx(769 / 2637, abs=0.08)
        assert {plan.site for plan in own} == (
            {"site-x"} if part == "external" else {"site-a", "site-b"}
        )


def test_an_existing_cohort_is_not_made_again(copy, monkeypatch):
    monkeypatch.setattr(phantom_cohorts, "make_patient", None)
    again = reopen(copy)
    check_voxels(again)
    assert again.table.equals(copy.table)


def test_an_interrupted_cohort_is_completed(copy):
    (copy.folder / "cohort.json").unlink()
    kept = copy.folder / "case-001"
    shutil.rmtree(copy.folder / "case-002")
    before = kept.stat().st_mtime_ns
    again = reopen(copy)
    assert kept.stat().st_mtime_ns == before
    assert receipts(again)["case-002"].hu_mean < 0


def test_a_phantom_of_other_code_is_made_again(copy, monkeypatch):
    made = []
    monkeypatch.setattr(phantom_cohorts, "generator_key", lambda: "other")
    monkeypatch.setattr(
        phantom_cohorts, "make_patient", lambda plan, *rest: made.append(plan.case_id)
    )
    reopen(copy)
    assert made == ["case-001", "case-002", "case-003"]


def test_a_changed_small_file_is_noticed(copy):
    path = copy.folder / "case-001" / "lesions.csv"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match=r"lesions\.csv has changed"):
        reopen(copy)


def test_a_changed_volume_is_noticed_on_request(copy):
    slices = sorted((copy.folder / "case-001" / "ct").glob("*.dcm"))
    content = bytearray(slices[5].read_bytes())
    content[-1001] ^= 1
    slices[5].write_bytes(content)
    again = reopen(copy)
    with pytest.raises(DataError, match="voxels of case-001"):
        check_voxels(again)


def test_a_missing_file_is_named(copy):
    (copy.folder / "case-002" / "labels.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case-002 lacks labels\.nii\.gz"):
        reopen(copy)


def test_a_cohort_that_is_not_the_manifests_is_refused(copy, monkeypatch):
    expected = receipts(copy) | {
        "case-001": Receipt("0" * 64, "0" * 64, -100.0, 300.0, [1, 1, 1, 1]),
    }
    monkeypatch.setattr(manifest, "expected_receipts", lambda name: expected)
    with pytest.raises(DataError, match="case-001"):
        reopen(copy)


def test_rounding_is_accepted_with_a_note(copy, monkeypatch, capsys):
    known = receipts(copy)
    first = known["case-001"]
    other = Receipt(
        "0" * 64, first.readers_sha256, first.hu_mean + 0.001, first.hu_sd, first.lesion_voxels
    )
    monkeypatch.setattr(manifest, "expected_receipts", lambda name: known | {"case-001": other})
    reopen(copy)
    assert "1 of 3 cases differ" in capsys.readouterr().out


def test_a_folder_of_ones_own_opens(copy):
    for case_id in copy.table["case_id"]:
        (copy.folder / case_id / "receipt.json").unlink()
    opened = open_cohort(str(copy.folder))
    assert opened.name == copy.folder.name
    assert [case.case_id for case in opened.cases("test")] == ["case-002"]


def test_a_patient_on_two_sides_is_refused(copy):
    table = copy.table.assign(patient_id="same")
    table.to_csv(copy.folder / "cohort.csv", index=False)
    with pytest.raises(OverlapError):
        open_cohort(str(copy.folder))


def test_errors_say_what_is_expected(made, tmp_path):
    with pytest.raises(DataError, match=r"cohort\.csv"):
        open_cohort(str(tmp_path))
    with pytest.raises(DataError, match="quick, many, standard"):
        open_cohort(profile="slow")
    with pytest.raises(DataError, match="train, tune, test, external"):
        next(made.cases("validation"))
    with pytest.raises(DataError, match="case-999"):
        made.case("case-999")
    (tmp_path / "cohort.csv").write_text("case_id,split\n")
    with pytest.raises(DataError, match="patient_id, site"):
        open_cohort(str(tmp_path))
    pd.DataFrame([{"case_id": "a", "patient_id": "p", "site": "s", "split": "dev"}]).to_csv(
        Path(tmp_path) / "cohort.csv", index=False
    )
    with pytest.raises(DataError, match="'dev'"):
        open_cohort(str(tmp_path))


def part_of(folder: Path, table: str, **row: str | int) -> Path:
    """Write a table of one case whose files are empty: they are read when they are asked for."""
    pd.DataFrame([row]).to_csv(folder / table, index=False)
    for name in ("ct", "label"):
        (folder / str(row.get("case", "")) / name).touch()
    return folder


def test_a_folder_of_folders_is_one_cohort(tmp_path):
    windows, scans = tmp_path / "windows", tmp_path / "scans"
    windows.mkdir()
    (scans / "a").mkdir(parents=True)
    voi = {"patient_id": "LIDC-IDRI-0001", "ct_file": "ct", "readers_file": "label"}
    part_of(windows, "lidc_voi.csv", voi_id="a_1", n_readers=3, **voi)
    scan = {"case": "a", "image_file": "ct", "label_file": "label", "label_kind": "readers"}
    scan |= {"licence": "CC BY 3.0", "patient": "LIDC-IDRI-0001"}
    part_of(scans, "cases.csv", **scan)
    found = open_cohort(tmp_path).table.set_index("case_id")
    assert found["part"].to_dict() == {"a": "scans", "a_1": "windows"}
    assert found["is_window"].to_dict() == {"a": False, "a_1": True}
    assert (found["split"] == "train").all()  # one patient, one part
    part_of(windows, "lidc_voi.csv", voi_id="a", n_readers=3, **voi)
    with pytest.raises(DataError, match="case a stands in two of its tables"):
        open_cohort(tmp_path)
    (tmp_path / "scans" / "lidc_voi.csv").touch()
    with pytest.raises(DataError, match=r"lidc_voi\.csv and cases\.csv; expected one"):
        open_cohort(scans)
