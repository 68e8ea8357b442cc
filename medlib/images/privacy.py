"""What identifies a person in a DICOM header, and how to look for it in what is written.

A run, a report or a page carries none of it. `PatientID` is not in the list: a table needs it to
keep a patient in one part, and a manifest holds only what its collection published.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

NEVER_CARRIED = (
    # who
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
    "PatientBirthDate",
    "PatientBirthTime",
    "EthnicGroup",
    "Occupation",
    "PatientReligiousPreference",
    "MilitaryRank",
    "BranchOfService",
    # under which other number
    "OtherPatientIDs",
    "IssuerOfPatientID",
    "AccessionNumber",
    "AdmissionID",
    "StudyID",
    "RequestedProcedureID",
    "MedicalRecordLocator",
    "InsurancePlanIdentification",
    # where to find them
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientTelecomInformation",
    "CountryOfResidence",
    "RegionOfResidence",
    "CurrentPatientLocation",
    "PatientInstitutionResidence",
    # who saw them, and where
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "OperatorsName",
    "StationName",
    "DeviceSerialNumber",
    # what somebody typed
    "PatientComments",
    "AdditionalPatientHistory",
    "ImageComments",
    "StudyComments",
    "VisitComments",
    "RequestedProcedureDescription",
    "AdmittingDiagnosesDescription",
    "MedicalAlerts",
    "Allergies",
)
MIN_LETTERS = 4  # a shorter word is found everywhere


def identifying_values(dataset: Dataset) -> dict[str, list[str]]:
    """Return what a header holds of `NEVER_CARRIED`, at any depth of its sequences.

    Returns
    -------
    dict
        Keyword -> the values that are not empty.
    """
    found: dict[str, list[str]] = {}
    for element in dataset.iterall():
        if element.keyword in NEVER_CARRIED and element.value not in (None, "", b""):
            many = element.value if element.VM > 1 else [element.value]
            found.setdefault(element.keyword, []).extend(str(value) for value in many)
    return found


def identifying_words(dataset: Dataset) -> set[str]:
    """Return the words of names and numbers that single out the patient, in lower case."""
    texts = [str(dataset.get("PatientID", ""))]
    for keyword in ("PatientName", "OtherPatientNames", "OtherPatientIDs", "AccessionNumber"):
        texts += identifying_values(dataset).get(keyword, [])
    words = {word for text in texts for word in re.split(r"[\W_]+", text.lower())}
    return {word for word in words if len(word) >= MIN_LETTERS}


def files_with(folder: Path, words: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Yield each file below `folder` that holds a text, with the key of that text.

    Parameters
    ----------
    folder : Path
        Members of ``.gz`` and zip files (``.npz``, a model checkpoint) are looked into.
    words : mapping of str to str
        Name of what must not be found -> the text. Case does not matter.
    """
    wanted = {key: text.lower().encode() for key, text in words.items()}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = b"\n".join((str(path.relative_to(folder)).encode(), *_contents(path))).lower()
        yield from ((path, key) for key, text in wanted.items() if text in content)


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


def tag_of(keyword: str) -> tuple[int, int]:
    """Return group and element of a keyword of `NEVER_CARRIED`."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM attribute")
    return tag >> 16, tag & 0xFFFF
