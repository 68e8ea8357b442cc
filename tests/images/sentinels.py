"""A CT series whose header holds a different telltale text in every attribute that could."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medlib.images.privacy import NEVER_CARRIED

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
