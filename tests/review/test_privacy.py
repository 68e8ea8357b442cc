"""What `medlib assist` and stored predictions write holds nothing that names the patient."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sentinels import files_with, stuff

from medlib.baseline.candidates import save_prediction
from medlib.baseline.inference import predict_volume
from medlib.baseline.run import Run
from medlib.images.dicom import read_series, write_series
from medlib.review.report import assist


@pytest.fixture
def stuffed(volume, tmp_path):
    """A series with a telltale text in every attribute that identifies, and the texts."""
    folder = tmp_path / "in"
    identity = dataclasses.replace(volume.identity, patient_id="ZQPATIENTID")
    write_series(dataclasses.replace(volume, identity=identity), folder)
    values = {**stuff(folder), "PatientID": "ZQPATIENTID"}
    assert {key for _, key in files_with(folder, values)} == set(values)
    return folder, values


def test_assist_writes_none_of_it(stuffed, write_run, tmp_path, capsys):
    torch.set_num_threads(1)
    folder, values = stuffed
    run = write_run(tmp_path / "run")
    [target] = assist(folder, tmp_path / "out", run)
    assert (target / "report.json").is_file()
    assert (target / "mask.nii.gz").is_file()
    assert list(files_with(tmp_path / "out", values)) == []
    assert list(files_with(run, values)) == []
    printed = capsys.readouterr()
    assert not [text for text in values.values() if text in printed.out + printed.err]


def test_a_stored_prediction_holds_none_of_it(stuffed, write_run, tmp_path):
    folder, values = stuffed
    run = Run(write_run(tmp_path / "run"))
    [volume] = read_series(folder)
    prediction = predict_volume(run.load_network(), run.config, volume)
    save_prediction(prediction, run.folder / "predictions" / "network" / "case-1.npz", "key")
    assert list(files_with(run.folder, values)) == []


def test_a_volume_holds_none_of_it_but_the_patients_number(stuffed):
    folder, values = stuffed
    [volume] = read_series(folder)
    held = repr(volume.identity) + repr(volume.warnings)
    assert [key for key, text in values.items() if text in held] == ["PatientID"]
