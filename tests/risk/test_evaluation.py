from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medlib.baseline.config import TrainConfig
from medlib.baseline.network import build_network, save_weights
from medlib.cli import app
from medlib.errors import DataError, RunError
from medlib.paths import MANIFESTS
from medlib.risk import evaluation_files, judging
from medlib.risk.evaluation import evaluate_dataset
from medlib.risk.evaluation_files import shipped_run

AFFINE = np.diag([-0.8, -0.8, 1.25, 1.0])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run that was never trained, whose every voxel of a window is marked."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    (folder / "evaluation").mkdir(parents=True)
    config = TrainConfig(
        profile="toy", cohort="quick", decoder_channels=(16, 8, 8, 4, 4), pretrained=False,
        crop_px=32, slice_spacing_mm=1.25, candidate_level=0.001,
    )  # fmt: skip
    (folder / "config.json").write_text(config.model_dump_json())
    save_weights(build_network(config), folder / "weights.safetensors")
    card = {
        "data": {"cohort": "toy", "patients": {"train": ["LIDC-IDRI-0001"], "tune": []}},
        "time": {"finished": "2026-01-01"},
    }
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "evaluation" / "operating_point.json").write_text('{"network": 0.0}')
    return folder


def evaluate(folder, *given, **options):
    [found] = evaluate_dataset(str(folder), *given, **options)
    return json.loads(json.dumps(found).replace("NaN", "null"))


@pytest.fixture
def vois(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number, patient in ((1, "LIDC-IDRI-0001"), (2, "somebody"), (3, "somebody")):
        hu = np.full((20, 24, 4), -850, np.int16)
        hu[8:12, 8:12, 1:3] = 30
        bits = np.where(hu > 0, 0b111, 0).astype(np.uint8)
        names = {"ct_file": f"{number}_ct.nii.gz", "readers_file": f"{number}_readers.nii.gz"}
        nibabel.save(nibabel.Nifti1Image(hu, AFFINE), folder / names["ct_file"])
        nibabel.save(nibabel.Nifti1Image(bits, AFFINE), folder / names["readers_file"])
        rows.append({"voi_id": f"v{number}", "patient_id": patient, **names, "n_readers": 3})
    pd.DataFrame(rows).to_csv(folder / "lidc_voi.csv", index=False)
    return folder


def test_metrics_and_masks_of_volumes_of_interest(vois, run_folder, tmp_path):
    out = tmp_path / "out"
    found = evaluate(vois, out, run_folder, save_masks=True)
    assert found == json.loads((out / "metrics.json").read_bytes())
    assert [row["voi_id"] for row in found["cases"]] == ["v1", "v2", "v3"]
    assert found["summary"]["held_out"]["n_cases"] == 2  # v1 is of a patient trained on
    assert found["summary"]["held_out"]["dice"]["n"] == 1
    assert found["summary"]["seen_by_the_run"]["n_cases"] == 1
    for row in found["cases"]:
        image = nibabel.load(out / "masks" / f"{row['voi_id']}_pred.nii.gz")
        assert bytes(image.header["descrip"]).startswith(b"algorithm:")  # no reader drew it
        assert image.shape == (20, 24, 4)
        assert np.allclose(image.affine, AFFINE)
        marked = np.asarray(image.dataobj) > 0
        assert row["dice"] == pytest.approx(2 * (4 * 4 * 2) / (4 * 4 * 2 + marked.sum()), abs=1e-5)


def test_no_mask_of_another_run_stays_beside_its_figures(vois, run_folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(run_folder, other)
    config = json.loads((other / "config.json").read_bytes())
    (other / "config.json").write_text(json.dumps({**config, "candidate_level": 0.9}))
    masks = out / "masks"
    evaluate(vois, out, run_folder, save_masks=True)
    marked = nibabel.load(masks / "v1_pred.nii.gz").get_fdata().sum()
    assert marked > 0
    evaluate(vois, out, other)
    assert not list(masks.iterdir())
    evaluate(vois, out, other, save_masks=True)
    assert nibabel.load(masks / "v1_pred.nii.gz").get_fdata().sum() == 0


def test_a_score_rests_on_the_files_it_was_made_from(vois, run_folder, tmp_path):
    before = evaluate(vois, tmp_path / "out", run_folder)
    path = vois / "2_readers.nii.gz"
    bits = np.asarray(nibabel.load(path).dataobj).copy()
    bits[0:8] = 0b111
    nibabel.save(nibabel.Nifti1Image(bits, AFFINE), path)
    after = evaluate(vois, tmp_path / "out", run_folder)
    same = [a["dice"] == b["dice"] for a, b in zip(before["cases"], after["cases"], strict=True)]
    assert same == [True, False, True]


@pytest.mark.parametrize(("real_ct", "held_out"), [(True, ["v3"]), (False, ["v1", "v2", "v3"])])
def test_who_trained_on_real_ct_has_seen_its_train_and_tune_part(
    vois, run_folder, tmp_path, real_ct, held_out
):
    other = tmp_path / "other"
    shutil.copytree(run_folder, other)
    card = json.loads((other / "card.json").read_bytes())
    card["data"] = {"patients": {}} | ({"real_ct": {}} if real_ct else {})
    (other / "card.json").write_text(json.dumps(card))
    table = pd.read_csv(vois / "lidc_voi.csv")
    split = pd.read_csv(MANIFESTS / "lidc_idri_split.csv").groupby("split")["patient_id"].first()
    table["patient_id"] = [split["train"], split["tune"], split["test"]]
    table.to_csv(vois / "lidc_voi.csv", index=False)
    found = evaluate(vois, tmp_path / "out", other)
    assert [row["voi_id"] for row in found["cases"] if not row["seen_by_the_run"]] == held_out


def test_cut_off_between_mask_and_score_neither_is_taken_for_the_run_before(
    vois, run_folder, tmp_path, monkeypatch
):
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(run_folder, other)
    config = json.loads((other / "config.json").read_bytes())
    (other / "config.json").write_text(json.dumps({**config, "candidate_level": 0.9}))
    evaluate(vois, out, run_folder, save_masks=True)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(judging, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluate(vois, out, other, save_masks=True)
    evaluate(vois, out, run_folder, save_masks=True)
    assert nibabel.load(out / "masks" / "v1_pred.nii.gz").get_fdata().sum() > 0


def test_an_interrupted_evaluation_goes_on(vois, run_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    whole = evaluate(vois, tmp_path / "whole", run_folder)
    scored = []
    score_outline = judging.score_outline

    def until_the_third(case, marked):
        scored.append(case.case_id)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score_outline(case, marked)

    monkeypatch.setattr(judging, "score_outline", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(vois, out, run_folder)
    assert not (out / "metrics.json").exists()
    found = evaluate(vois, out, run_folder)
    assert scored == ["v1", "v2", "v3", "v3"]  # only what was not done
    for row in (*found["cases"], *whole["cases"]):
        row.pop("seconds")
    assert found == whole


def test_a_whole_scan(tmp_path, run_folder):
    case = tmp_path / "scans" / "one"
    case.mkdir(parents=True)
    hu = np.full((64, 64, 6), 40, np.int16)
    hu[:4] = -1000
    mask = np.zeros(hu.shape, np.uint8)
    mask[20:24, 20:24, 2:4] = 1
    nibabel.save(nibabel.Nifti1Image(hu, AFFINE), case / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), case / "mask.nii.gz")
    row = {"case": "one", "licence": "CC BY 4.0", "image_file": "ct.nii.gz"}
    pd.DataFrame([{**row, "mask_file": "mask.nii.gz"}]).to_csv(case.parent / "cases.csv")
    found = evaluate(case.parent, tmp_path / "out", run_folder, save_masks=True)
    [scan] = found["cases"]
    assert scan["patient_id"] == "one"  # the table names no patient
    assert (scan["hit"], scan["false_alarms"], scan["n_reported"]) == (0, 0, 0)  # no lung, no mark
    assert scan["dice"] == 0
    assert (tmp_path / "out" / "masks" / "one_pred.nii.gz").is_file()


def test_what_cannot_be_read_leaves_nothing_behind(tmp_path, vois, run_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no cohort; expected .*lidc_voi\.csv .* or cases"):
        evaluate(tmp_path / "empty", tmp_path / "out", run_folder)
    with pytest.raises(RunError, match="not a run folder"):
        evaluate(vois, tmp_path / "out", tmp_path / "empty")
    (vois / "2_ct.nii.gz").unlink()
    result = CliRunner().invoke(
        app, ["evaluate", str(vois), "--out", str(tmp_path / "out"), "--run", str(run_folder)]
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "2_ct.nii.gz" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_shipped_run_is_the_newest_that_saw_real_ct(tmp_path, monkeypatch, run_folder):
    monkeypatch.setattr(evaluation_files, "REFERENCE_RUNS", tmp_path)
    with pytest.raises(RunError, match="name a run folder with --run.*medlib train"):
        shipped_run()
    for name, finished, data in (
        ("old", "2026-01-01", {"real_ct": {}}),
        ("new", "2026-02-01", {"real_ct": {}}),
        ("phantom", "2026-03-01", {}),
        (".being-made.123", "2026-04-01", {"real_ct": {}}),
    ):
        (tmp_path / name / "evaluation").mkdir(parents=True)
        card = {"data": data, "time": {"finished": finished}}
        (tmp_path / name / "card.json").write_text(json.dumps(card))
        (tmp_path / name / "evaluation" / "operating_point.json").write_text("{}")
    assert shipped_run() == tmp_path / "new"
