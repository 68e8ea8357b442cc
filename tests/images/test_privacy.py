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
from medlib.images.patient_names import folded, naming


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


@pytest.mark.parametrize(
    ("name", "number", "found", "passed_over"),
    [
        (
            "Meyerhoff^Jo^^Dr",
            "MRN-447812",
            ["CT_Meyerhoff2", "of JO", "x447812y", "mrn 447812"],
            ["Dr. X", "MRN", "John", "join"],
        ),
        (
            "Kim^Li",
            "77",
            ["B40f Kim", "kim.", "KIM_LI", "li2020", "KimLi", "likim", "no 77", "pt-77"],
            ["Klimt", "clinical", "Kimberley", "B77f", "177", "B40f"],
        ),
        ("A^B", "7", ["a b", "AB", "B^A"], ["a chest", "plan B", "7"]),
        ("Kim Li", "", ["Kim", "li"], []),
        ("van der Berg^Anna", "CT-001", ["Bergmann", "ct001"], ["der Thorax", "van", "CT", "001"]),
        ("Le^Van", "", ["pt le", "Van"], ["lesion", "advance"]),
        ("Müller^Jörg", "", ["MULLER", "Jörg", "jorg", "MUELLER", "Joerg"], ["mull"]),
        ("Mueller^Joe", "", ["Müller", "muller", "joe"], ["moller", "joseph"]),
        ("Ｋｉｍ^Ａｅ", "", ["kim"], []),
        ("王小明", "", ["王小明", "患者王小明", "小明", "pt 王"], ["国王杯", "胸部"]),
        ("Wang^XiaoDong=王^小东", "", ["wang", "王小东", "小东"], ["王子", "东方"]),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "", ["やまだ", "太郎さん", "yamada"], ["山"]),
        ("김^희중", "", ["김희중", "희중 씨", "김"], ["김치"]),
        ("", "", [], ["", "anything"]),
    ],
)
def test_words_are_those_that_single_out(name, number, found, passed_over):
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = name, number
    pattern = naming(dataset)
    assert [text for text in found if not pattern.search(folded(text))] == []
    assert [text for text in passed_over if pattern.search(folded(text))] == []


def test_a_name_without_end_is_no_work_without_end():
    dataset = Dataset()
    dataset.add_new("OtherPatientIDs", "LO", "x1 " * 20_000)
    assert len(naming(dataset).pattern) < 10_000


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
