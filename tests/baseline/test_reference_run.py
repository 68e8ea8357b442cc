from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from toy import Ball, ToyCohort, toy_case, toy_volume

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.baseline import config, make_run, train, training_sources
from medlib.baseline.candidates import CANDIDATE_COLUMNS, Prediction
from medlib.baseline.run import OUTLINER, Run
from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts.cohort import Cohort
from medlib.errors import DataError, OverlapError, RunError
from medlib.images.volume import Volume
from medlib.paths import MANIFESTS
from medlib.risk import run_evaluation
from medlib.risk.run_evaluation import evaluated_run as evaluated
from medlib.risk.tune_choices import choose_operating_point_on_nodules
from tools.model_card import model_card

SCANS = {
    "Lung_Dx-A0001": "CC BY 4.0",
    "pyradiomics-lung2": "BSD-3-Clause",
    "Lung_Dx-A0002": "CC BY 4.0",
    "LUNG1-001": "CC BY-NC 3.0",
}


def save(values: np.ndarray, like: Volume, path: Path) -> None:
    # NIfTI: x, y, z, with x and y turned round
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ like.affine
    nibabel.save(nibabel.Nifti1Image(values.T, affine), path)


def patients(split: str) -> list[str]:
    table = pd.read_csv(MANIFESTS / "lidc_idri_split.csv")
    return sorted(table.loc[table["split"] == split, "patient_id"].unique())


@pytest.fixture
def real_ct(tmp_path, monkeypatch) -> Path:
    """Two nodules of each part, one of them useless for training, and four scans."""
    folder = tmp_path / "real"
    (folder / "lidc_voi").mkdir(parents=True)
    rows = []
    for split in ("train", "tune", "test"):
        for k, patient in enumerate(patients(split)[:2]):
            name = f"{patient}_1"
            volume, masks = toy_volume(
                [Ball((20, 64, 92), 6)], spacing_mm=(2.5, 0.8, 0.8), patient_id=patient
            )
            window = np.s_[:, 50:110, 85:145]
            save(volume.hu[window].astype(np.int16), volume, folder / "lidc_voi" / f"{name}_ct.nii")
            bits = 0b111 * masks[0][window].astype(np.uint8)
            save(bits, volume, folder / "lidc_voi" / f"{name}_readers.nii")
            rows.append(
                {
                    "voi_id": name,
                    "patient_id": patient,
                    "ct_file": f"{name}_ct.nii",
                    "readers_file": f"{name}_readers.nii",
                    "n_readers": 3,
                    "flag": voi.MERGED if k else "",
                    "other_annotations_in_voi": 0,
                }
            )
    pd.DataFrame(rows).to_csv(folder / "lidc_voi" / "lidc_voi.csv", index=False)
    cases = []
    for seed, (case, licence) in enumerate(SCANS.items()):
        (folder / "full_ct" / case).mkdir(parents=True)
        volume, masks = toy_volume([Ball((20, 64, 36), 9)], noise_hu=20, seed=seed)
        save(volume.hu.astype(np.int16), volume, folder / "full_ct" / case / "ct.nii")
        save(masks[0].astype(np.uint8), volume, folder / "full_ct" / case / "mask.nii")
        row = {"case": case, "licence": licence, "image_file": "ct.nii", "mask_file": "mask.nii"}
        cases.append(row)
    pd.DataFrame(cases).to_csv(folder / "full_ct" / "cases.csv", index=False)
    monkeypatch.setenv("MEDLIB_REAL_CT", str(folder))
    return folder


def rated(case: Case) -> Case:
    """Add what a real reader says of a lesion; its outline is that of a patient of its part."""
    origin = f"{patients(case.split)[0]}/1"
    said = dict.fromkeys(set(LESION_COLUMNS) - set(case.lesions), 3)
    return replace(case, lesions=case.lesions.assign(**said | {"origin": origin}))


@dataclass(frozen=True)
class Phantom(Cohort):
    all_cases: tuple[Case, ...] = ()

    def case(self, case_id: str) -> Case:
        return next(case for case in self.all_cases if case.case_id == case_id)


@pytest.fixture
def small(tmp_path, monkeypatch) -> None:
    """Profiles of two steps, and a phantom of a patient a part."""
    tiny = {
        "steps": 2, "tune_every": 1, "tune_crops": 4, "batch_size": 2, "pretrained": False,
        "decoder_channels": (16, 8, 8, 4, 4),
    }  # fmt: skip
    for name in ("lidc", "lidc-outline"):
        monkeypatch.setitem(config.PROFILES, name, config.PROFILES[name].model_copy(update=tiny))
    cases = []
    for seed, split in enumerate(("train", "tune", "test", "external")):
        case = toy_case([Ball((20, 64, 36), 6)], f"toy-{seed}", split, noise_hu=20, seed=seed)
        cases.append(rated(case))
        (tmp_path / "phantom" / case.case_id).mkdir(parents=True)
        receipt = tmp_path / "phantom" / case.case_id / "receipt.json"
        receipt.write_text('{"voxels": {}}')
    table = ToyCohort(tuple(cases)).table
    cohort = Phantom("phantom", tmp_path / "phantom", table, tuple(cases))
    opened = make_run.open_cohort
    for module in (make_run, run_evaluation):
        monkeypatch.setattr(
            module,
            "open_cohort",
            lambda dataset, *rest: cohort if dataset == "phantom" else opened(dataset, *rest),
        )


def made(folder: Path, dataset: str = "lidc-voi", left_out: str | None = None) -> Run:
    return evaluated("lidc", dataset, 0, folder, (), left_out).run


def test_who_had_a_say_is_in_the_card_and_not_among_the_held_out(real_ct, small, tmp_path):
    run = made(tmp_path / "run", left_out="Lung_Dx-A0001")
    known = {p for part in ("train", "tune") for p in run.card["data"]["patients"][part]}
    assert known >= {"pyradiomics-lung2", "Lung_Dx-A0002", "toy-0", "toy-1"}
    assert not known & {"Lung_Dx-A0001", "LUNG1-001", "toy-2", "toy-3", *patients("test")}
    vois, scans = (
        json.loads((run.folder / "evaluation" / f"real-{kind}.json").read_bytes())["cases"]
        for kind in ("vois", "scans")
    )
    assert [row["patient_id"] for row in vois] == patients("test")[:2]
    assert {row["case"]: row["seen_by_the_run"] for row in scans} == {
        "Lung_Dx-A0001": False,
        "pyradiomics-lung2": True,
        "Lung_Dx-A0002": True,
        "LUNG1-001": False,
    }
    assert "Whole scans: pyradiomics-lung2" in model_card(run)
    assert "--leave-out Lung_Dx-A0001" in run.card["expected_output"]
    assert sorted(path.name for path in tmp_path.glob("*run*")) == ["run"]
    with pytest.raises(RunError, match="run exists, made from another cohort"):
        made(run.folder)


def test_the_phantom_takes_the_place_of_real_ct(real_ct, small, tmp_path):
    run = made(tmp_path / "run", "phantom")
    assert run.card["data"]["cohort"] == "phantom in the place of real CT, phantom"
    assert "real_ct" not in run.card["data"]
    assert run.card["data"]["tested_on"]["n_vois"] == {"train": 2, "tune": 2, "test": 2}
    assert "--dataset phantom" in run.card["expected_output"]
    known = run.card["data"]["patients"]
    # Besides the phantom's patients those who gave the outlines: they are no test.
    assert known == {
        "train": sorted(["toy-0", patients("train")[0]]),
        "tune": sorted(["toy-1", patients("tune")[0]]),
    }
    vois, scans = (
        json.loads((run.folder / "evaluation" / f"real-{kind}.json").read_bytes())["cases"]
        for kind in ("vois", "scans")
    )
    tested = {row["patient_id"] for row in vois}
    assert tested == {patients("train")[1], patients("tune")[1], *patients("test")[:2]}
    assert not any(row["seen_by_the_run"] for row in scans)
    settings = config.PROFILES["lidc"].model_dump()
    assert run.config.model_dump() == settings  # as on real CT
    inner = Run(run.folder / OUTLINER).card["data"]
    assert inner["patients"] == known
    assert inner["n_vois"] == run.card["data"]["n_vois"] == {"train": 1, "tune": 1}


def test_nobody_gives_outlines_to_train_and_to_tune(real_ct, small, tmp_path, monkeypatch):
    monkeypatch.setattr(training_sources, "outline_givers", lambda *_: {"LIDC-IDRI-0001"})
    with pytest.raises(OverlapError, match="LIDC-IDRI-0001 gave outlines to train and to tune"):
        made(tmp_path / "run", "phantom")


def test_the_operating_point_reports_nine_in_ten_real_tune_nodules():
    ball = Ball((20, 24, 24), 6)
    case = rated(toy_case([ball], split="tune", size_mm=(40.0, 48.0, 48.0)))
    scores = np.linspace(0.99, 0.6, 40)
    hu = case.volume.hu
    nodules = [
        replace(case, volume=replace(case.volume, hu=np.full_like(hu, k)), is_window=True)
        for k in range(len(scores))
    ]

    def predict(window):
        found = pd.DataFrame(0.0, index=range(2), columns=list(CANDIDATE_COLUMNS)).assign(
            candidate_id=[1, 2], score=[0.999, scores[int(window.volume.hu[0, 0, 0])]]
        )
        labels = 2 * case.lesion_labels.astype(np.uint16)
        labels[0, 0, 0] = 1  # surer, and elsewhere
        return Prediction(labels.astype(np.float16), labels, found)

    chosen = choose_operating_point_on_nodules(predict, nodules)
    assert (scores >= chosen).mean() == 0.9
    assert chosen in scores
    nodules = [replace(nodule, split="test") for nodule in nodules]
    with pytest.raises(OverlapError, match="of part 'test' was given"):
        choose_operating_point_on_nodules(predict, nodules)


def test_without_a_scan_to_train_on_nothing_begins(real_ct, small, tmp_path):
    table = pd.read_csv(real_ct / "full_ct" / "cases.csv")
    table[table["case"] != "Lung_Dx-A0002"].to_csv(real_ct / "full_ct" / "cases.csv", index=False)
    with pytest.raises(DataError, match="no scan of the tune part; it needs one of Lung_Dx-A0002"):
        made(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_training_goes_on_only_where_nothing_has_changed(real_ct, small, tmp_path, monkeypatch):
    folders = []

    def begin(train, tune, config, device, checkpoints):
        folders.append(checkpoints.parent.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_on", begin)

    def started(**options: str) -> str:
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "run", **options)
        return folders[-1]

    first = started()
    assert started() == first
    assert started(left_out="Lung_Dx-A0001") != first
    receipt = next((tmp_path / "phantom").glob("*/receipt.json"))
    receipt.write_text('{"voxels": {"ct": "other"}}')
    assert started() != first
    receipt.write_text('{"voxels": {}}')
    assert started() == first
    monkeypatch.setattr(make_run, "code_key", lambda *modules: "another code")
    assert started() != first
