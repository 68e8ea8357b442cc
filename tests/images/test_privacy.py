from __future__ import annotations

import gzip
import zipfile

import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from sentinels import files_with, identifying_values

from book.identifying import NEVER_CARRIED
from medlib.images.deidentify import identifying_words


@pytest.mark.parametrize("keyword", NEVER_CARRIED)
def test_the_standard_removes_or_replaces_all_of_the_list(keyword):
    assert (Tag(keyword).group, Tag(keyword).element) in {tuple(tag) for tag in table.ALL_TAGS}


def test_the_list_holds_what_the_issue_names():
    assert {
        "PatientName",
        "PatientBirthDate",
        "PatientAddress",
        "PatientTelephoneNumbers",
        "InstitutionName",
        "InstitutionAddress",
        "ReferringPhysicianName",
        "AccessionNumber",
        "OtherPatientIDs",
    } <= set(NEVER_CARRIED)


def test_values_are_found_in_sequences_and_empty_ones_are_not():
    inner = Dataset()
    inner.OtherPatientIDs = ["H-1", "H-2"]
    dataset = Dataset()
    dataset.PatientName, dataset.PatientBirthDate, dataset.Modality = "Doe^Jane", "", "CT"
    dataset.RequestAttributesSequence = Sequence([inner])
    assert identifying_values(dataset) == {
        "PatientName": ["Doe^Jane"],
        "OtherPatientIDs": ["H-1", "H-2"],
    }


def test_words_are_those_that_single_out():
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = "Meyerhoff^Jo^^Dr", "MRN-447812"
    assert identifying_words(dataset) == {"meyerhoff", "447812"}


def test_files_are_looked_into_packed_ones_too(tmp_path):
    words = {"name": "Sentinel-Name", "id": "Sentinel-ID"}
    (tmp_path / "clean.txt").write_text("nothing")
    assert list(files_with(tmp_path, words)) == []
    (tmp_path / "plain.json").write_text('{"a": "SENTINEL-NAME"}')
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(b"..sentinel-id.."))
    with zipfile.ZipFile(tmp_path / "packed.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta", "Sentinel-ID " * 50)
    (tmp_path / "of-sentinel-name").mkdir()
    (tmp_path / "of-sentinel-name" / "mask").write_text("")
    assert {(path.name, key) for path, key in files_with(tmp_path, words)} == {
        ("plain.json", "name"),
        ("packed.nii.gz", "id"),
        ("packed.npz", "id"),
        ("mask", "name"),
    }
