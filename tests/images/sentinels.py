"""A CT series whose header holds a different telltale text in every attribute that could."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from book.identifying import NEVER_CARRIED

_BY_VR = {"DA": "19110203", "TM": "111203", "CS": "ZQCODED"}


def sentinel_values() -> dict[str, str]:
    """Keyword -> a text that fits its type and occurs nowhere else."""
    return {
        keyword: _BY_VR.get(dictionary_VR(keyword), f"ZQ{number:02d}SECRET")
        for number, keyword in enumerate(NEVER_CARRIED)
    }


def stuff(folder: Path) -> dict[str, str]:
    """Fill the headers of every file in a folder; return the texts by keyword."""
    values = sentinel_values()
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        inner = Dataset()
        inner.ScheduledPerformingPhysicianName = values["nested"] = "ZQNESTED"
        inner.PatientName = values["PatientName"]
        dataset.RequestAttributesSequence = Sequence([inner])
        block = dataset.private_block(0x0009, "ZQPRIVATE", create=True)
        block.add_new(1, "LO", "ZQPRIVATEVALUE")
        values["private"] = "ZQPRIVATE"
        dataset.preamble = b"ZQPREAMBLE".ljust(128, b"\0")
        values["preamble"] = "ZQPREAMBLE"
        dataset.file_meta.SourceApplicationEntityTitle = values["application"] = "ZQAE"
        dataset.save_as(path, enforce_file_format=True)
    return values


def identifying_values(dataset: Dataset) -> dict[str, list[str]]:
    """Keyword of `NEVER_CARRIED` -> the values that are not empty, at any depth."""
    found: dict[str, list[str]] = {}
    for element in dataset.iterall():
        if element.keyword in NEVER_CARRIED and element.value not in (None, "", b""):
            many = element.value if element.VM > 1 else [element.value]
            found.setdefault(element.keyword, []).extend(str(value) for value in many)
    return found


def files_with(folder: Path, words: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Each file below a folder that holds a text, with the key of that text; packed ones too."""
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
            yield from (archive.read(name) for name in archive.namelist())
