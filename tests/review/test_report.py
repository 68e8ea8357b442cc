from __future__ import annotations

import dataclasses
import json

import nibabel
import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from medlib import cli
from medlib.errors import InputError
from medlib.images.dicom import read_series, write_series
from medlib.images.image_files import read_mask
from medlib.review import report as report_module
from medlib.review.priority import PRIORITIES
from medlib.review.report import assist, report_on
from medlib.review.schema import DECISIONS_FILE, Report, read_report
from medlib.scope import DISCLAIMER

PREDICT_VOLUME = "medlib.baseline.inference.predict_volume"


@pytest.fixture
def reported(volume, prediction, model):
    return report_on(volume, prediction, model)


def test_report_measures_what_reaches_the_operating_point(reported):
    report, mask = reported
    assert [lesion.id for lesion in report.lesions] == [1, 2]
    box, line = report.lesions
    assert box.score == pytest.approx(0.9, abs=1e-3)
    assert box.volume_ml == pytest.approx(400 * 2.5 * 0.8 * 0.8 / 1000)
    assert box.max_diameter_mm == pytest.approx(np.hypot(3 * 2.5, 9 * 0.8 * np.sqrt(2)))
    assert box.center_xyz_mm == pytest.approx((-30 + 24.5 * 0.8, -20 + 24.5 * 0.8, 100 + 5.5 * 2.5))
    assert box.slices == (4, 7)
    assert line.slices == (2, 2)
    assert line.max_diameter_mm == pytest.approx(5 * 0.8)
    assert (mask == 1).sum() == 400
    assert (mask == 2).sum() == 6
    assert (mask > 2).sum() == 0


def test_report_says_what_it_rests_on(reported):
    report, _ = reported
    assert report.series_instance_uid == "1.2.3.4"
    assert report.review_priority == "high"
    assert report.risk_statement == "toy statement"
    assert report.warnings == ("from the reader", "toy warning")
    assert report.disclaimer == DISCLAIMER
    assert "SECRET-ID" not in report.model_dump_json()


def test_nothing_above_the_operating_point_is_low_not_an_error(volume, prediction, model):
    strict = dataclasses.replace(model, operating_point=0.95)
    report, mask = report_on(volume, prediction, strict)
    assert report.lesions == ()
    assert report.review_priority == "low"
    assert not mask.any()


def nothing_in(prediction):
    return dataclasses.replace(
        prediction,
        probability=np.zeros_like(prediction.probability),
        labels=np.zeros_like(prediction.labels),
        candidates=prediction.candidates.iloc[:0],
    )


def test_not_looked_at_is_not_low_and_a_healthy_chest_is(volume, prediction, model, tmp_path):
    healthy, _ = report_on(volume, nothing_in(prediction), model)
    assert (healthy.review_priority, healthy.not_looked_at) == ("low", "")
    unseen = dataclasses.replace(nothing_in(prediction), not_looked_at="no lung was found")
    report, mask = report_on(volume, unseen, model)
    assert report.review_priority == "not looked at"
    assert report.not_looked_at == "no lung was found"
    assert report.warnings[1].startswith("nothing was looked at: no lung was found. An empty")
    assert not mask.any()


def test_a_report_of_before_is_read(reported, tmp_path):
    content = reported[0].model_dump(mode="json")
    del content["not_looked_at"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert read_report(tmp_path) == reported[0]


def test_warnings_of_the_series(volume, prediction, model):
    def warnings(volume, prediction):
        return " | ".join(report_on(volume, prediction, model)[0].warnings)

    empty = nothing_in(prediction)
    assert "says nothing about this series" not in warnings(volume, empty)
    unseen = dataclasses.replace(empty, not_looked_at="no lung was found")
    assert "says nothing about this series" in warnings(volume, unseen)
    one_sided = dataclasses.replace(prediction, warnings=("one lung alone",))
    assert "from the reader | one lung alone | " in warnings(volume, one_sided)
    thick = volume.affine.copy()
    thick[:3, 2] *= 3
    assert "7.5 mm apart" in warnings(dataclasses.replace(volume, affine=thick), empty)
    assert "single slice" in warnings(
        dataclasses.replace(volume, hu=volume.hu[:1]),
        dataclasses.replace(empty, labels=empty.labels[:1], probability=empty.probability[:1]),
    )
    strict = dataclasses.replace(model, most_marks=1)
    assert "no held-out scan had more than 1" in " ".join(
        report_on(volume, prediction, strict)[0].warnings
    )
    assert "held-out" not in warnings(volume, prediction)
    assert "apart" not in warnings(volume, prediction)
    assert "says nothing" not in warnings(volume, prediction)


def test_schema_has_the_fields_of_the_contract_and_says_what_they_mean():
    schema = Report.model_json_schema(mode="serialization")
    assert set(schema["required"]) == {
        "series_instance_uid",
        "model",
        "operating_point",
        "lesions",
        "review_priority",
        "not_looked_at",
        "risk_statement",
        "warnings",
        "disclaimer",
    }
    lesion = schema["$defs"]["Lesion"]["properties"]
    assert set(lesion) == {
        "id",
        "volume_ml",
        "max_diameter_mm",
        "score",
        "center_xyz_mm",
        "slices",
    }
    assert "Feret" in lesion["max_diameter_mm"]["description"]
    assert "LPS" in lesion["center_xyz_mm"]["description"]
    assert set(schema["$defs"]["ModelIdentity"]["properties"]) == {"name", "sha256"}
    assert schema["properties"]["review_priority"]["enum"] == list(PRIORITIES)


@pytest.mark.parametrize(
    "change",
    [
        {"review_priority": "urgent"},
        {"operating_point": float("nan")},
        {"operating_point": -0.1},
        {"series_instance_uid": "../../etc"},
        {"patient_name": "DOE^JANE"},
    ],
)
def test_what_is_not_a_report(reported, change):
    with pytest.raises(ValidationError):
        Report.model_validate({**reported[0].model_dump(), **change})


@pytest.fixture
def series(volume, tmp_path):
    folder = tmp_path / "in"
    write_series(volume, folder)
    return folder


@pytest.fixture
def toy_model(monkeypatch, prediction, model):
    """Let `assist` run without a trained network."""
    monkeypatch.setattr("medlib.review.model.load_model", lambda run_dir: model)
    monkeypatch.setattr(PREDICT_VOLUME, lambda *_, **__: prediction)


@pytest.mark.usefixtures("toy_model")
def test_assist_writes_mask_and_report_on_the_source_grid(series, tmp_path):
    out = tmp_path / "not" / "there" / "yet"
    [folder] = assist(series, out)
    [source] = read_series(series)
    assert folder == out / source.identity.series_instance_uid
    assert sorted(path.name for path in folder.iterdir()) == ["mask.nii.gz", "report.json"]
    report = read_report(folder)
    mask = read_mask(folder / "mask.nii.gz", source)
    assert mask.shape == source.hu.shape
    assert sorted(np.unique(mask)) == [0, 1, 2]
    for lesion in report.lesions:
        voxels = np.argwhere(mask == lesion.id)
        center = source.to_patient_mm(voxels.mean(axis=0))
        assert center == pytest.approx(lesion.center_xyz_mm)
        # The file itself, read by another tool: RAS+ world coordinates.
        image = nibabel.load(folder / "mask.nii.gz")
        indices = np.argwhere(np.asarray(image.dataobj) == lesion.id)
        world = nibabel.affines.apply_affine(image.affine, indices).mean(axis=0)
        assert world == pytest.approx(np.array(lesion.center_xyz_mm) * [-1, -1, 1], abs=1e-3)
    said = bytes(image.header["descrip"].item()).decode()
    assert said == f"algorithm:{report.model.name}::{report.model.sha256[:12]}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "not"]


def test_a_body_with_gas_alone_is_not_looked_at_from_the_file_to_the_exit_code(
    volume, write_run, tmp_path
):
    gas = dataclasses.replace(volume, hu=np.where(volume.hu == -850, -990, volume.hu))
    write_series(gas, tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.BodyPartExamined = "ABDOMEN"
        dataset.save_as(path)
    out, run = tmp_path / "out", write_run(tmp_path / "run")
    done = CliRunner().invoke(
        cli.app, ["assist", str(tmp_path / "in"), "--out", str(out), "--run", str(run)]
    )
    assert done.exit_code == 1
    [folder] = out.iterdir()
    report = read_report(folder)
    assert report.review_priority == "not looked at"
    assert report.not_looked_at.endswith("the header states BodyPartExamined ABDOMEN")
    assert report.lesions == ()
    assert f"marks 0, review priority not looked at: {report.not_looked_at}, " in done.stdout
    assert (folder / "mask.nii.gz").is_file()


@pytest.mark.usefixtures("toy_model")
def test_nothing_written_names_the_patient(series, tmp_path):
    [folder] = assist(series, tmp_path / "out")
    assert "SECRET" not in (folder / "report.json").read_text()
    assert set(json.loads((folder / "report.json").read_text())) == set(Report.model_fields)
    header = nibabel.load(folder / "mask.nii.gz").header
    assert "SECRET" not in str(header)


@pytest.mark.usefixtures("toy_model")
def test_an_unanswered_report_is_replaced_an_answered_one_is_not(series, tmp_path):
    [folder] = assist(series, tmp_path / "out")
    (folder / "stale.txt").write_text("old")
    assert assist(series, tmp_path / "out") == [folder]
    assert not (folder / "stale.txt").exists()
    (folder / DECISIONS_FILE).write_text("{}\n")
    with pytest.raises(InputError, match="a reviewer has answered"):
        assist(series, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [folder.name]


@pytest.mark.usefixtures("toy_model")
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_while_predicting_leaves_nothing(monkeypatch, series, tmp_path, exists):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(PREDICT_VOLUME, fail)
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match="out of memory"):
        assist(series, out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("toy_model")
def test_an_error_on_the_second_series_leaves_nothing_of_the_first(
    monkeypatch, volume, prediction, tmp_path
):
    identity = dataclasses.replace(volume.identity, series_instance_uid="1.2.3.5")
    write_series(volume, tmp_path / "in" / "a")
    write_series(dataclasses.replace(volume, identity=identity), tmp_path / "in" / "b")
    answers = iter([prediction])

    def once(*_, **__):
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError("second") from None

    monkeypatch.setattr(PREDICT_VOLUME, once)
    with pytest.raises(RuntimeError, match="second"):
        assist(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("toy_model")
def test_out_may_not_be_a_file(series, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        assist(series, tmp_path / "out")
    with pytest.raises(InputError, match="cannot write here"):
        assist(series, tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.usefixtures("toy_model")
@pytest.mark.parametrize("uid", ["../escape", "..", "", "1.2/3"])
def test_a_uid_never_leaves_the_folder(monkeypatch, volume, tmp_path, uid):
    identity = dataclasses.replace(volume.identity, series_instance_uid=uid)
    monkeypatch.setattr(
        report_module, "read_series", lambda _: [dataclasses.replace(volume, identity=identity)]
    )
    with pytest.raises(InputError, match="not a DICOM UID"):
        assist(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
